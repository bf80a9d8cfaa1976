//! What the extension has made in a database, to be compared with what it has made in another: however a database got to
//! a version, it must be the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::Cluster;

/// Functions, tables, rights, comments and so on, as Postgres's catalogs describe them.
const FACTS: &str = include_str!("catalog.sql");

/// One statement that reads all rows of all tables of the extension, but for what differs by itself: times, keys, oids.
const ROWS: &str = "
    set search_path = pg_catalog;
    select string_agg(format('select jsonb_build_array(''row'', %L, to_jsonb(t) - %L::text[]) from %s as t', c.oid::regclass,
      '{created_at,installed_at,key,publication}', c.oid::regclass), ' union all ')
    from pg_class as c
    where c.relkind in ('r', 'p') and c.oid in (
      select d.objid from pg_depend as d join pg_extension as e on e.oid = d.refobjid
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'campfire')";

/// What an extension has made.
#[derive(Debug, PartialEq, Eq)]
pub struct Catalog {
    /// What it is and what it is called; what is to be said of it. A row has no name but its table's.
    facts: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Catalog {
    /// Reads it in one database.
    pub fn read(cluster: &Cluster, database: &str) -> Result<Self> {
        let rows = cluster.psql(database, ROWS)?;
        let mut lines = cluster.psql(database, FACTS)?;
        lines.push_str(&cluster.psql(database, &format!("set search_path = pg_catalog; {rows}"))?);
        let mut facts = BTreeMap::<_, BTreeSet<String>>::new();
        for line in lines.lines() {
            let (kind, name, detail): (String, String, serde_json::Value) =
                serde_json::from_str(line).with_context(|| line.to_owned())?;
            let detail = detail.as_str().map_or_else(|| detail.to_string(), str::to_owned);
            facts.entry((kind, name)).or_default().insert(detail);
        }
        Ok(Self { facts })
    }

    /// What one has and `other` has not, or has otherwise; a line each, and none if they are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<_> = self.facts.keys().chain(other.facts.keys()).collect();
        let empty = BTreeSet::new();
        names
            .into_iter()
            .filter_map(|key| {
                let (ours, theirs) =
                    (self.facts.get(key).unwrap_or(&empty), other.facts.get(key).unwrap_or(&empty));
                let what = format!("{} {}", key.0, key.1);
                match (ours.difference(theirs).next(), theirs.difference(ours).next()) {
                    (None, None) => None,
                    (Some(_), None) if theirs.is_empty() => Some(format!("{what}: only in the first")),
                    (None, Some(_)) if ours.is_empty() => Some(format!("{what}: only in the second")),
                    (one, two) => {
                        let (one, two) =
                            first_difference(one.map_or("", String::as_str), two.map_or("", String::as_str));
                        Some(format!("{what}: {one:?} in the first, {two:?} in the second"))
                    }
                }
            })
            .collect()
    }

    /// How many there are of each kind.
    pub fn kinds(&self) -> BTreeMap<&str, usize> {
        let mut kinds = BTreeMap::new();
        for ((kind, _), details) in &self.facts {
            *kinds.entry(kind.as_str()).or_default() += details.len();
        }
        kinds
    }
}

/// The first line that differs: functions are long.
fn first_difference<'a>(one: &'a str, two: &'a str) -> (&'a str, &'a str) {
    let (mut ones, mut twos) = (one.lines(), two.lines());
    loop {
        match (ones.next(), twos.next()) {
            (Some(one), Some(two)) if one == two => {}
            (one, two) => return (one.unwrap_or_default(), two.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(facts: &[(&str, &str, &str)]) -> Catalog {
        let mut catalog = Catalog { facts: BTreeMap::new() };
        for (kind, name, detail) in facts {
            let key = ((*kind).to_owned(), (*name).to_owned());
            catalog.facts.entry(key).or_default().insert((*detail).to_owned());
        }
        catalog
    }

    #[test]
    fn equal_catalogs_have_no_differences() {
        let facts = [("function", "f()", "begin\nend"), ("row", "t", "{1}"), ("row", "t", "{2}")];
        assert_eq!(catalog(&facts).differences(&catalog(&facts)), Vec::<String>::new());
    }

    #[test]
    fn differences_name_what_differs_and_how() {
        let one = catalog(&[
            ("comment", "f()", "a"),
            ("function", "f()", "begin\nold\nend"),
            ("row", "t", "{1}"),
            ("row", "t", "{2}"),
        ]);
        let two = catalog(&[("function", "f()", "begin\nnew\nend"), ("row", "t", "{1}"), ("table", "t", "")]);
        assert_eq!(
            one.differences(&two),
            [
                "comment f(): only in the first",
                "function f(): \"old\" in the first, \"new\" in the second",
                "row t: \"{2}\" in the first, \"\" in the second",
                "table t: only in the second",
            ]
        );
    }
}
