//! The organization whose widget it is.

use axum::http::{HeaderMap, header};
use uuid::Uuid;

use crate::api::database::{Failure, Transaction};
use crate::api::error::Code;

/// An organization whose widget is on.
pub(super) struct Organization {
    pub(super) id: Uuid,
    pub(super) requires_identity: bool,
    /// Those that are valid now.
    pub(super) identity_secrets: Vec<String>,
}

/// The page that a request comes from, as its browser says; None for what is no browser.
#[derive(Clone, Debug)]
pub(super) struct PageOrigin(Option<String>);

impl PageOrigin {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |origin: &axum::http::HeaderValue| String::from_utf8_lossy(origin.as_bytes()).into_owned();
        Self(headers.get(header::ORIGIN).map(text))
    }

    /// Whether it is one of these, or any is good.
    fn is_among(&self, allowed: &[String]) -> bool {
        let Some(origin) = &self.0 else { return true };
        let is_it = |entry: &String| entry.trim().trim_end_matches('/').eq_ignore_ascii_case(origin);
        allowed.is_empty() || allowed.iter().any(is_it)
    }
}

impl Organization {
    /// Looks it up as the relay, before the transaction is somebody else's.
    pub(super) async fn find(sql: &Transaction, id: Uuid, page: &PageOrigin) -> Result<Self, Failure> {
        let schema = &sql.schema;
        let query = format!(
            "select o.allowed_origins, o.require_identity, array(
               select s.secret from {schema}.organization_secrets as s
               where s.organization_id = o.id and s.valid_from <= pg_catalog.now()
                 and (s.valid_until is null or s.valid_until > pg_catalog.now()))
             from {schema}.organizations as o where o.id = $1 and o.widget_enabled"
        );
        let row = sql.query_opt(&query, &[&id]).await?.ok_or(Code::OrganizationNotFound)?;
        if !page.is_among(&row.try_get::<_, Vec<String>>(0)?) {
            return Err(Code::OriginNotAllowed.into());
        }
        Ok(Self { id, requires_identity: row.try_get(1)?, identity_secrets: row.try_get(2)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_one_of_the_list_or_none_is_told() {
        let is_allowed = |origin: Option<&str>, allowed: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(|entry| (*entry).to_owned()).collect();
            PageOrigin(origin.map(str::to_owned)).is_among(&allowed)
        };
        let list = ["https://shop.example", " HTTPS://Other.example:8443/ "];
        assert!(is_allowed(Some("https://shop.example"), &list));
        assert!(is_allowed(Some("https://other.example:8443"), &list));
        assert!(is_allowed(None, &list) && is_allowed(Some("null"), &[]));
        for origin in
            ["", "null", "http://shop.example", "https://shop.example.evil", "https://shop.example:444"]
        {
            assert!(!is_allowed(Some(origin), &list), "{origin}");
        }
    }
}
