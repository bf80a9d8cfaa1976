//! Which tables' rows come from partitions, and what those log of an old row.
//!
//! Rows of a partition are sent under the id of the table that is published, and called whole or not by that table's
//! replica identity; but they were logged by the partition's own. The server describes a partition right after its
//! table, before the first row of it that a connection gets, and again whenever its identity changes.

use std::collections::HashMap;

use super::ReplicaIdentity;

#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// What was described since the last row, at most the last two.
    described: Vec<(u32, ReplicaIdentity)>,
    /// The identities of the partitions of a published table.
    identities: HashMap<u32, HashMap<u32, ReplicaIdentity>>,
}

impl Partitions {
    pub(super) fn describe(&mut self, relation_id: u32, identity: ReplicaIdentity) {
        if self.described.len() == 2 {
            self.described.remove(0);
        }
        self.described.push((relation_id, identity));
    }

    /// A row comes under this id. If what was described last is not it but came right after it, that is the partition
    /// the row was written to.
    pub(super) fn write_to(&mut self, relation_id: u32) {
        if let [(table, _), (partition, identity)] = self.described[..]
            && table == relation_id
            && partition != relation_id
        {
            self.identities.entry(table).or_default().insert(partition, identity);
        }
        self.described.clear();
    }

    /// Something else came that tables are described for.
    pub(super) fn forget_described(&mut self) {
        self.described.clear();
    }

    /// Whether some partition logs less than the whole of an old row.
    pub(super) fn log_keys_only(&self, relation_id: u32) -> bool {
        self.identities
            .get(&relation_id)
            .is_some_and(|partitions| partitions.values().any(|identity| *identity != ReplicaIdentity::Full))
    }
}
