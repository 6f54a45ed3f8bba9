// SPDX-License-Identifier: GPL-3.0-or-later
exports.up = (pgm) => {
  pgm.addColumn('campaigns', { budget: { type: 'numeric' } });
};
