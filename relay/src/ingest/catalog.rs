//! Looks up in the database what the stream refers to and does not say: over a session of its own each time, because it
//! is seldom needed, and the stream stands still meanwhile.

use crate::decode::Domains;
use crate::postgres::{self, Conninfo};
use crate::route::MessageKeys;
use crate::sql::{self, SqlError};

#[derive(Clone, Copy)]
pub(super) struct Catalog<'a> {
    database: &'a Conninfo,
    database_oid: u32,
}

impl<'a> Catalog<'a> {
    pub(super) fn new(database: &'a Conninfo, database_oid: u32) -> Self {
        Self { database, database_oid }
    }

    /// The domains that there are now, and their types.
    pub(super) async fn domains(self) -> Result<Domains, SqlError> {
        let session = postgres::connect(self.database).await?;
        postgres::answered(self.database, "the domains and their types", sql::domains(&session)).await
    }

    /// The keys under which the extension signs its messages now.
    pub(super) async fn message_keys(self) -> Result<MessageKeys, SqlError> {
        let session = postgres::connect(self.database).await?;
        let keys = sql::message_keys(&session, self.database_oid);
        postgres::answered(self.database, "the keys of broadcasts", keys).await
    }
}
