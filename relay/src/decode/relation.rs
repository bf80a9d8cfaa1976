//! What the server tells about a table before its first row, and again after DDL.

/// A published table as it was at this point of the WAL. Only the published columns, in the order of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The oid, of the partition root where the publication says `publish_via_partition_root`.
    pub id: u32,
    pub namespace: String,
    pub name: String,
    pub replica_identity: ReplicaIdentity,
    pub columns: Vec<RelationColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    pub name: String,
    /// For a domain this is the domain's oid, not its base type's.
    pub type_oid: u32,
    pub type_modifier: i32,
    /// Belongs to the replica identity, under `Full` every column. Not to be believed of a partitioned table.
    pub is_key: bool,
}

/// Which old values an update or delete carries. Of a partitioned table this is its own, and each of its partitions,
/// which hold the rows, has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    Nothing,
    /// The whole old row, always.
    Full,
    /// The columns of an index.
    Index,
}
