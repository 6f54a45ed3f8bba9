// SPDX-License-Identifier: GPL-3.0-or-later
exports.up = (pgm) => {
  pgm.createTable('campaigns', { id: 'id', tenant_id: { type: 'integer', notNull: true } });
};
