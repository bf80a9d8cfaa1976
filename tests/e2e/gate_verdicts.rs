//! Gates against Postgres: many generated gates, claims and rows, and two things that must give the verdict of the
//! evaluator. One is the gate's own text, which is SQL: only its claims are put in, by this file. The other is the SQL
//! that the relay makes for snapshots.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use campfire_gate::{Claim, Gate, Row, Type};
use campfire_tests::Cluster;
use campfire_tests::cluster::{Options, connect};
use campfire_tests::seed::Seed;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, SimpleQueryMessage};

const ROWS: usize = 150;
const GATES: usize = 1_500;
/// Gates of one query.
const BATCH: usize = 25;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Uuid,
    Text,
    Boolean,
    Number,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Uuid, Self::Text, Self::Boolean, Self::Number];

    fn sql(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Number => "numeric",
        }
    }

    /// Values as Postgres prints them, the odd ones among them.
    fn values(self) -> &'static [&'static str] {
        match self {
            Self::Uuid => &[
                "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                "00000000-0000-0000-0000-000000000000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ],
            Self::Text => &[
                "", " ", "a", "a ", "A", "it's", "\\", "\\'", "ß", "ss", "ä", "a\u{308}", "1", "\n", "'; --",
            ],
            Self::Boolean => &["true", "false"],
            Self::Number => &["0", "1", "-1", "2", "7", "32767", "1.5", "-0.001", "9223372036854775807"],
        }
    }

    fn value(self, random: &mut StdRng) -> &'static str {
        self.values().choose(random).expect("values")
    }
}

/// Columns by kind, and those that are only tested for null.
const COLUMNS: [(&str, &str, Option<Kind>); 12] = [
    ("seller", "uuid", Some(Kind::Uuid)),
    ("buyer", "uuid", Some(Kind::Uuid)),
    ("state", "text", Some(Kind::Text)),
    ("label", "varchar(20)", Some(Kind::Text)),
    ("nick", "name", Some(Kind::Text)),
    ("draft", "boolean", Some(Kind::Boolean)),
    ("open", "boolean", Some(Kind::Boolean)),
    ("small", "smallint", Some(Kind::Number)),
    ("shop", "integer", Some(Kind::Number)),
    ("big", "bigint", Some(Kind::Number)),
    ("total", "numeric", Some(Kind::Number)),
    ("made_at", "timestamptz", None),
];

/// Claims, with the form in which tokens have them.
const CLAIMS: [(&str, Kind); 8] = [
    ("sub", Kind::Uuid),
    ("app.owner", Kind::Uuid),
    ("role", Kind::Text),
    ("app.\"Team name\"", Kind::Text),
    ("admin", Kind::Boolean),
    ("level", Kind::Number),
    ("app.limit", Kind::Number),
    ("nobody", Kind::Text),
];

const LISTS: [(&str, Kind); 4] =
    [("shops", Kind::Number), ("owners", Kind::Uuid), ("teams", Kind::Text), ("app.flags", Kind::Boolean)];

/// What a client says, by path.
struct Claims(Vec<(&'static str, Claim)>);

fn claim(kind: Kind, random: &mut StdRng) -> Claim {
    match random.random_range(0..10) {
        0 => Claim::Null,
        1 => Claim::Other,
        2 => Claim::Text("no value of any kind \0".to_owned()),
        3 if kind != Kind::Number => Claim::Number("7".to_owned()),
        _ => match kind {
            Kind::Uuid => Claim::Text(kind.value(random).to_uppercase()),
            Kind::Text => Claim::Text(kind.value(random).to_owned()),
            Kind::Boolean => Claim::Boolean(random.random()),
            Kind::Number if random.random() => Claim::Number(kind.value(random).to_owned()),
            Kind::Number => Claim::Text(kind.value(random).to_owned()),
        },
    }
}

impl Claims {
    fn random(random: &mut StdRng) -> Self {
        let one = |(path, kind), random: &mut StdRng| (path, claim(kind, random));
        let list = |(path, kind), random: &mut StdRng| match random.random_range(0..8) {
            0 => (path, Claim::Null),
            1 => (path, Claim::Text("[]".to_owned())),
            count => (path, Claim::List((2..count).map(|_| claim(kind, random)).collect())),
        };
        let mut claims: Vec<_> = CLAIMS.map(|known| one(known, random)).into();
        claims.extend(LISTS.map(|known| list(known, random)));
        claims.push(("app", if random.random() { Claim::Other } else { Claim::Null }));
        Self(claims)
    }

    fn at(&self, path: &str) -> Claim {
        self.0.iter().find(|(known, _)| *known == path).map_or(Claim::Null, |(_, claim)| claim.clone())
    }

    fn at_parts(&self, path: &[String]) -> Claim {
        let shown: Vec<String> = path
            .iter()
            .map(|name| if name.contains(' ') { format!("\"{name}\"") } else { name.clone() })
            .collect();
        self.at(&shown.join("."))
    }

    /// A claim as SQL, independently of the crate: what has another form is null.
    fn sql(&self, path: &str, kind: Kind) -> String {
        sql_of(&self.at(path), kind)
    }

    fn list_sql(&self, path: &str, kind: Kind) -> String {
        match self.at(path) {
            Claim::List(members) => {
                let members: Vec<String> = members.iter().map(|member| sql_of(member, kind)).collect();
                format!("array[{}]::{}[]", members.join(","), kind.sql())
            }
            _ => format!("null::{}[]", kind.sql()),
        }
    }
}

fn sql_of(claim: &Claim, kind: Kind) -> String {
    let text = match (claim, kind) {
        (Claim::Text(text), Kind::Uuid | Kind::Text | Kind::Number) if !text.contains('\0') => {
            Some(text.clone())
        }
        (Claim::Number(text), Kind::Number) => Some(text.clone()),
        (Claim::Boolean(value), Kind::Boolean) => Some(value.to_string()),
        _ => None,
    };
    match text {
        Some(text) => format!("({}::{})", literal(&text), kind.sql()),
        None => format!("(null::{})", kind.sql()),
    }
}

/// With `standard_conforming_strings`, which is on.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A gate in its own language, and as SQL with the claims in it.
struct Texts {
    gate: String,
    sql: String,
}

struct Writer<'a> {
    random: &'a mut StdRng,
    claims: &'a Claims,
}

impl Writer<'_> {
    fn gate(&mut self, depth: usize) -> Texts {
        let kind = self.random.random_range(0..if depth == 0 { 6 } else { 10 });
        match kind {
            0..=5 => self.test(),
            6 | 7 => {
                let word = if kind == 6 { " and " } else { " or " };
                let parts: Vec<Texts> =
                    (0..self.random.random_range(2..4)).map(|_| self.gate(depth - 1)).collect();
                let join = |part: fn(&Texts) -> &str| parts.iter().map(part).collect::<Vec<_>>().join(word);
                let (gate, sql) = (join(|part| &part.gate), join(|part| &part.sql));
                match self.random.random() {
                    // Without parentheses the precedence of both languages decides.
                    true => Texts { gate, sql },
                    false => Texts { gate: format!("({gate})"), sql: format!("({sql})") },
                }
            }
            8 => self.gate(depth - 1).map(|text| format!("not {text}")),
            _ => self.gate(depth - 1).map(|text| format!("NOT ({text})")),
        }
    }

    fn test(&mut self) -> Texts {
        let kind = *Kind::ALL.choose(self.random).expect("kinds");
        match self.random.random_range(0..8) {
            0 => {
                let (column, ..) = COLUMNS.choose(self.random).expect("columns");
                let not = if self.random.random() { "not " } else { "" };
                Texts::both(&format!("{column} is {not}null"))
            }
            1 => {
                let paths = ["sub", "nobody", "app", "level"];
                let path = *paths.choose(self.random).expect("paths");
                let is_null = self.claims.at(path) == Claim::Null;
                let constant = if is_null { "null::text" } else { "'x'::text" };
                Texts { gate: format!("claims.{path} is null"), sql: format!("{constant} is null") }
            }
            2 => {
                let (path, kind) = *LISTS.choose(self.random).expect("lists");
                // A literal by itself is text, and no uuid.
                let is_column = kind == Kind::Uuid || self.random.random();
                let left = if is_column { self.column(kind) } else { self.constant(kind) };
                let sql = if left.sql.starts_with('\'') {
                    format!("{}::{}", left.sql, kind.sql())
                } else {
                    left.sql
                };
                Texts {
                    gate: format!("{} = any (claims.{path})", left.gate),
                    sql: format!("{sql} = any ({})", self.claims.list_sql(path, kind)),
                }
            }
            3 | 4 => {
                let left = self.column(kind);
                let members: Vec<Texts> =
                    (0..self.random.random_range(1..4)).map(|_| self.right(kind)).collect();
                let not = if self.random.random() { "not " } else { "" };
                let list = |part: fn(&Texts) -> &str| members.iter().map(part).collect::<Vec<_>>().join(", ");
                Texts {
                    gate: format!("{} {not}in ({})", left.gate, list(|part| &part.gate)),
                    sql: format!("{} {not}in ({})", left.sql, list(|part| &part.sql)),
                }
            }
            5 if kind == Kind::Boolean => self.column(kind),
            _ => {
                let signs: &[&str] = match kind {
                    Kind::Uuid | Kind::Number => &["=", "<>", "!=", "<", "<=", ">", ">="],
                    Kind::Text | Kind::Boolean => &["=", "<>"],
                };
                let sign = *signs.choose(self.random).expect("signs");
                let (mut left, mut right) = (self.column(kind), self.right(kind));
                if self.random.random() {
                    std::mem::swap(&mut left, &mut right);
                }
                Texts {
                    gate: format!("{} {sign} {}", left.gate, right.gate),
                    sql: format!("{} {sign} {}", left.sql, right.sql),
                }
            }
        }
    }

    fn column(&mut self, kind: Kind) -> Texts {
        let columns: Vec<_> = COLUMNS.iter().filter(|(.., known)| *known == Some(kind)).collect();
        Texts::both(columns.choose(self.random).expect("a column of each kind").0)
    }

    fn constant(&mut self, kind: Kind) -> Texts {
        let value = kind.value(self.random);
        Texts::both(&match kind {
            Kind::Number | Kind::Boolean => value.to_owned(),
            Kind::Uuid | Kind::Text => literal(value),
        })
    }

    fn right(&mut self, kind: Kind) -> Texts {
        match self.random.random_range(0..3) {
            0 => self.column(kind),
            1 => self.constant(kind),
            _ => {
                let paths: Vec<_> = CLAIMS.iter().filter(|(_, known)| *known == kind).collect();
                let (path, _) = paths.choose(self.random).expect("a claim of each kind");
                Texts { gate: format!("claims.{path}"), sql: self.claims.sql(path, kind) }
            }
        }
    }
}

impl Texts {
    fn both(text: &str) -> Self {
        Self { gate: text.to_owned(), sql: text.to_owned() }
    }

    fn map(self, change: impl Fn(String) -> String) -> Self {
        Self { gate: change(self.gate), sql: change(self.sql) }
    }
}

fn value(name: &str, kind: Option<Kind>, random: &mut StdRng) -> String {
    if random.random_range(0..6) == 0 {
        return "null".to_owned();
    }
    match (name, kind) {
        ("small", _) => random.random_range(-2..3).to_string(),
        ("shop", _) => ["7", "1", "-1", "2147483647"].choose(random).expect("values").to_string(),
        ("big", _) => {
            ["7", "9223372036854775807", "-9223372036854775808"].choose(random).expect("values").to_string()
        }
        ("total", _) => {
            let values = [
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
                "1.50",
                "7.000",
                "-0.0010",
                "0",
                "1e30",
                "9223372036854775807",
            ];
            values.choose(random).expect("values").to_string()
        }
        (_, Some(kind)) => literal(kind.value(random)),
        (_, None) => "now()".to_owned(),
    }
}

async fn make_rows(database: &Client, random: &mut StdRng) -> Result<()> {
    let columns = COLUMNS.map(|(name, kind, _)| format!("{name} {kind}")).join(", ");
    database.batch_execute(&format!("create table probe (id int primary key, {columns})")).await?;
    let mut insert = String::from("insert into probe values ");
    for id in 0..ROWS {
        let values = COLUMNS.map(|(name, _, kind)| value(name, kind, random)).join(", ");
        let between = if id > 0 { ", " } else { "" };
        write!(insert, "{between}({id}, {values})")?;
    }
    Ok(database.batch_execute(&insert).await?)
}

/// What a query gives, as text.
async fn rows(database: &Client, query: &str) -> Result<Vec<Vec<Option<String>>>> {
    let mut rows = Vec::new();
    for message in database.simple_query(query).await.context(query.to_owned())? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
        }
    }
    Ok(rows)
}

fn type_of(name: &str) -> Option<Type> {
    let (_, sql_type, _) = COLUMNS.iter().find(|(known, ..)| *known == name)?;
    Some(Type::of_oid(match *sql_type {
        "uuid" => 2950,
        "text" => 25,
        "varchar(20)" => 1043,
        "name" => 19,
        "boolean" => 16,
        "smallint" => 21,
        "integer" => 23,
        "bigint" => 20,
        "numeric" => 1700,
        _ => 1184,
    }))
}

fn read(gate: &Gate, row: &[Option<String>]) -> Option<Row> {
    let column = |name: &str| COLUMNS.iter().position(|(known, ..)| *known == name);
    gate.read(gate.columns().map(|name| row[column(name).expect("a known column")].as_deref()))
}

#[tokio::test]
async fn gates_give_the_verdicts_of_postgres() -> Result<()> {
    let cluster = Cluster::boot_with(Options { seed: Seed::Bare, ..Options::default() })?;
    let database = &connect(&cluster.superuser_url("postgres")).await?;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    make_rows(database, &mut random).await?;
    let names = COLUMNS.map(|(name, ..)| name).join(", ");
    let table = rows(database, &format!("select {names} from probe order by id")).await?;
    let mut counts = [0_usize; 3];
    for _ in 0..GATES / BATCH {
        let mut gates = Vec::new();
        let mut selected = String::new();
        while gates.len() < BATCH {
            let claims = Claims::random(&mut random);
            let texts = Writer { random: &mut random, claims: &claims }.gate(3);
            let gate = match Gate::new(&texts.gate, type_of) {
                Ok(gate) => gate,
                Err(error) => {
                    ensure!(
                        texts.gate.len() > 3_000 || error.problem.contains("deep"),
                        "{}: {error}",
                        texts.gate
                    );
                    continue;
                }
            };
            let bound = gate.bind(|path| claims.at_parts(path));
            let between = if gates.is_empty() { "" } else { ", " };
            write!(selected, "{between}({}), {}", texts.sql, gate.to_sql("probe", &bound))?;
            gates.push((texts, gate, bound));
        }
        let answers = rows(database, &format!("select {selected} from probe order by id")).await?;
        for (row, answers) in table.iter().zip(&answers) {
            for ((texts, gate, bound), answers) in gates.iter().zip(answers.chunks(2)) {
                let known =
                    read(gate, row).with_context(|| format!("{} cannot be read: {row:?}", texts.gate))?;
                let verdict = gate.verdict(&known, bound);
                let shown = verdict.map(|verdict| if verdict { "t" } else { "f" });
                for answer in answers {
                    ensure!(
                        answer.as_deref() == shown,
                        "Postgres says {answer:?}, the gate {shown:?}, of {row:?}: {}\nas SQL: {}\nfor snapshots: {}",
                        texts.gate,
                        texts.sql,
                        gate.to_sql("probe", bound)
                    );
                }
                counts[verdict.map_or(2, usize::from)] += 1;
            }
        }
    }
    println!("false, true, null: {counts:?}");
    // A generator that found only one answer would show nothing.
    ensure!(counts.iter().all(|count| *count > GATES * ROWS / 20), "{counts:?}");
    Ok(())
}
