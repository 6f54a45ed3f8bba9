# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The options store and copies, see STORE_SPEC and COPIES_SPEC in module_utils/store/open.py."""

    DOCUMENTATION = r"""
options:
  store:
    description:
      - Where backup sets lie, as a folder of the host that the module runs on, as a folder of another host
        (O(store.host)), or as a bucket of S3.
      - The bytes flow through the host that the module runs on, and that host holds the credentials.
    type: dict
    required: true
    suboptions:
      type:
        description: V(posix) for a folder, V(s3) for a bucket.
        type: str
        choices:
          - posix
          - s3
        default: posix
      path:
        description:
          - The folder, from the root on. Required for O(store.type=posix).
          - It must exist, so that a volume that is not mounted is noticed. Its file system must know hard links.
          - What is made in it has mode V(0700) (folders) and V(0600) (files).
        type: path
      create:
        description: Create the folder O(store.path) when it is not there.
        type: bool
        default: false
      host:
        description:
          - The host that has the folder, when it is not the one that the module runs on. A name, an address, or an
            alias of the ssh configuration of the user that runs the module.
          - It is reached from the module's host by OpenSSH's client, without prompts. Its host key must be known
            there, and a key of that user must be let in.
          - The host needs a POSIX shell, coreutils and findutils, but no Python. The login shell must not print
            anything when no terminal is there.
          - The roles put the address, port and user of an inventory host in its place, see
            P(saasops.runbook.resolve_store#filter).
        type: str
      port:
        description: Port of sshd on O(store.host). Without it, what ssh's configuration says, else 22.
        type: int
      user:
        description:
          - Login name on O(store.host). Without it, what ssh's configuration says, else the name of the user that
            runs the module.
          - What is made in the folder belongs to this user.
        type: str
      identity_file:
        description:
          - File of the private key, on the host that the module runs on. It has no passphrase and mode V(0600).
          - Without it, ssh takes what its configuration says, or asks the agent.
        type: path
      known_hosts:
        description:
          - File that holds the host key of O(store.host), on the host that the module runs on; no other is looked at.
          - Without it, C(~/.ssh/known_hosts) and C(/etc/ssh/ssh_known_hosts).
        type: path
      bucket:
        description:
          - The bucket, which must exist. Required for O(store.type=s3).
          - The server must honour conditional writes (C(If-None-Match)), as AWS S3, MinIO, Ceph, SeaweedFS and R2 do.
            That is tried with a small object below C(probes/) before anything is written.
        type: str
      prefix:
        description: The beginning of all keys in the bucket, for instance V(podcastflow/).
        type: str
        default: ''
      endpoint_url:
        description: Address of an S3 server other than AWS, for instance V(https://s3.example.com:8333).
        type: str
      region:
        description:
          - Region of the bucket.
          - Without it, boto3's own choice (environment, profile); else V(auto) where O(store.endpoint_url) is given
            and V(us-east-1) where not.
        type: str
      access_key:
        description:
          - Access key. Without it, boto3 looks for credentials by itself, in O(store.profile), the environment,
            C(~/.aws) and the instance's role.
        type: str
      secret_key:
        description: Secret key of O(store.access_key).
        type: str
      session_token:
        description: Session token of temporary credentials.
        type: str
      profile:
        description: Profile of C(~/.aws) of the user that runs the module.
        type: str
      ca_bundle:
        description: File of the CA that signed the certificate of O(store.endpoint_url).
        type: path
      path_style:
        description:
          - Put the bucket's name into the path instead of the host's name.
          - Without it, yes where O(store.endpoint_url) is given and boto3's own choice where not.
        type: bool
      connect_timeout:
        description: Seconds to wait for a connection to the S3 server or to O(store.host).
        type: int
        default: 10
      read_timeout:
        description: Seconds to wait for the S3 server, or the ssh connection to O(store.host), to go on.
        type: int
        default: 60
      retries:
        description: How often a request to the S3 server is sent again when the network or the server fails.
        type: int
        default: 5
"""

    # the same suboptions, so that they are told once
    COPIES: str = r"""
options:
  copies:
    description:
      - Stores that get a copy of the sets, each with credentials of its own. Their suboptions are those of O(store).
      - The bytes flow from O(store) through the host that the module runs on.
    type: list
    elements: dict
    required: true
    suboptions:
""" + DOCUMENTATION.partition("    suboptions:\n")[2].replace("O(store.", "O(copies.")

    HELD_COPIES: str = r"""
options:
  copies:
    description:
      - The other stores that hold copies of the sets, with the suboptions of O(store). A suspicion is recorded there
        too, so that no prune of a copy goes past it.
    type: list
    elements: dict
    suboptions:
""" + DOCUMENTATION.partition("    suboptions:\n")[2].replace("O(store.", "O(copies.")

    # the journal's second place
    # annotated, as ansible-test reads plain assignments as one text each
    ANCHOR: str = r"""
options:
  anchor:
    description:
      - The second place where the journal's head is kept after each run, with the suboptions of O(store).
      - It is refused when it is O(store) itself.
    type: dict
    suboptions:
""" + DOCUMENTATION.partition("    suboptions:\n")[2].replace("O(store.", "O(anchor.")

    GUARD_ANCHOR: str = r"""
options:
  guard_anchor:
    description: Internal; the inventory's C(saasops_journal_anchor). Set by admission.
    type: dict
    suboptions:
""" + DOCUMENTATION.partition("    suboptions:\n")[2].replace("O(store.", "O(guard_anchor.")

    # of verbs that work without a store, and only remember less then
    HISTORY: str = r"""
options:
  store:
    description:
      - Where the history is kept, under C(health/), with the suboptions that all modules give a store.
      - Without it everything is measured, but what looks back (O(checks[].hold), C(for), C(rises), C(falls)) is
        V(inconclusive) when it matters.
    type: dict
    suboptions:
""" + DOCUMENTATION.partition("    suboptions:\n")[2]
