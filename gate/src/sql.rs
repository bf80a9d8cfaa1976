//! A gate as SQL, with a client's claims in it as constants.

use crate::claim::{Bound, BoundClaim};
use crate::gate::{Gate, Kind, Node, Operand, Value};

impl Gate {
    /// A condition on a row of the table with this alias, for a client with these claims.
    pub fn to_sql(&self, alias: &str, claims: &Bound) -> String {
        let mut sql = String::new();
        Printer { gate: self, alias, claims, sql: &mut sql }.node(&self.root);
        sql
    }
}

struct Printer<'a> {
    gate: &'a Gate,
    alias: &'a str,
    claims: &'a Bound,
    sql: &'a mut String,
}

impl Printer<'_> {
    fn node(&mut self, node: &Node) {
        self.sql.push('(');
        match node {
            Node::Compare { operator, left, right } => {
                let kind = self.kind(left).or(self.kind(right));
                self.operand(left, kind);
                self.sql.push_str(&format!(" {} ", operator.sign()));
                self.operand(right, kind);
            }
            Node::AnyOf { left, parameter } => {
                let kind = self.kind(left);
                self.operand(left, kind);
                let list = match self.claims.0.get(*parameter) {
                    Some(BoundClaim::List(list)) => list.as_deref(),
                    _ => None,
                };
                self.sql.push_str(&format!(" = any ({})", array(list, kind)));
            }
            Node::IsNull(operand) => {
                match operand {
                    Operand::Column(number) => self.column(*number),
                    Operand::Claim(number) => {
                        let is_null = matches!(
                            self.claims.0.get(*number),
                            Some(BoundClaim::Presence { is_null: true }) | None
                        );
                        self.sql.push_str(if is_null { "null::text" } else { "''::text" });
                    }
                    Operand::Literal(value) => self.sql.push_str(&constant(Some(value), None)),
                }
                self.sql.push_str(" is null");
            }
            Node::And(parts) => self.nodes(parts, " and "),
            Node::Or(parts) => self.nodes(parts, " or "),
            Node::Not(node) => {
                self.sql.push_str("not ");
                self.node(node);
            }
        }
        self.sql.push(')');
    }

    fn nodes(&mut self, parts: &[Node], between: &str) {
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                self.sql.push_str(between);
            }
            self.node(part);
        }
    }

    fn kind(&self, operand: &Operand) -> Option<Kind> {
        match operand {
            Operand::Column(number) => self.gate.columns.get(*number)?.kind,
            Operand::Claim(_) => None,
            Operand::Literal(value) => value.kind(),
        }
    }

    fn column(&mut self, number: usize) {
        let name = self.gate.columns.get(number).map_or("", |column| &column.name);
        self.sql.push_str(&format!("{}.\"{}\"", self.alias, name.replace('"', "\"\"")));
    }

    fn operand(&mut self, operand: &Operand, kind: Option<Kind>) {
        // Byte by byte, whatever the column's collation is by now.
        let is_text = kind == Some(Kind::Text);
        self.sql.push_str(if is_text { "(" } else { "" });
        match operand {
            Operand::Column(number) => {
                self.column(*number);
                self.sql.push_str(if is_text { "::text" } else { "" });
            }
            Operand::Claim(number) => {
                let value = match self.claims.0.get(*number) {
                    Some(BoundClaim::One(value)) => value.as_ref(),
                    _ => None,
                };
                self.sql.push_str(&constant(value, kind));
            }
            Operand::Literal(value) => self.sql.push_str(&constant(Some(value), kind)),
        }
        self.sql.push_str(if is_text { " collate \"C\")" } else { "" });
    }
}

impl Value {
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Uuid(_) => Some(Kind::Uuid),
            Self::Text(_) => Some(Kind::Text),
            Self::Boolean(_) => Some(Kind::Boolean),
            Self::Number(_) => Some(Kind::Number),
            Self::Opaque => None,
        }
    }
}

fn type_name(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Uuid) => "uuid",
        Some(Kind::Boolean) => "boolean",
        Some(Kind::Number) => "numeric",
        Some(Kind::Text) | None => "text",
    }
}

fn constant(value: Option<&Value>, kind: Option<Kind>) -> String {
    match value {
        Some(Value::Uuid(text)) => format!("{}::uuid", quoted(text)),
        Some(Value::Text(text)) => format!("{}::text", quoted(text)),
        Some(Value::Boolean(value)) => value.to_string(),
        Some(Value::Number(number)) => number.to_sql(),
        Some(Value::Opaque) | None => format!("null::{}", type_name(kind)),
    }
}

fn array(list: Option<&[Option<Value>]>, kind: Option<Kind>) -> String {
    let is_bigint =
        |value: &Option<Value>| matches!(value, Some(Value::Number(number)) if number.is_bigint());
    let element = match (kind, list) {
        (Some(Kind::Number), Some(list)) if list.iter().all(is_bigint) => "bigint",
        _ => type_name(kind),
    };
    match list {
        None => format!("null::{element}[]"),
        Some(list) => {
            let members: Vec<String> = list.iter().map(|value| constant(value.as_ref(), kind)).collect();
            format!("array[{}]::{element}[]", members.join(", "))
        }
    }
}

/// A string of SQL, whatever `standard_conforming_strings` is.
fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!(" E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}
