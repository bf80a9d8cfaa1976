//! Whether a row passes a gate, in SQL's logic of three values.

use std::cmp::Ordering;

use crate::claim::{Bound, BoundClaim};
use crate::gate::{Column, Gate, Kind, Node, Operand, Value};
use crate::number::Number;
use crate::parse::Operator;

/// What a gate reads of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Box<[Option<Value>]>);

impl Row {
    /// Memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let text = |value: &Option<Value>| match value {
            Some(Value::Text(text) | Value::Uuid(text)) => text.len(),
            Some(Value::Number(Number::Finite(decimal))) => decimal.bytes(),
            _ => 0,
        };
        size_of_val(&*self.0) + self.0.iter().map(text).sum::<usize>()
    }
}

impl Gate {
    /// The row by which a gate decides: the values of [`Gate::columns`] as Postgres prints them. None if one of them is not
    /// of the column's type: such a row passes no gate.
    pub fn read<'a>(&self, values: impl Iterator<Item = Option<&'a str>>) -> Option<Row> {
        let mut read = Vec::with_capacity(self.columns.len());
        for (Column { kind, .. }, value) in self.columns.iter().zip(values) {
            read.push(match (kind, value) {
                (_, None) => None,
                (None, Some(_)) => Some(Value::Opaque),
                (Some(Kind::Text), Some(text)) => Some(Value::Text(text.into())),
                (Some(Kind::Uuid), Some(text)) => Some(Value::uuid(text)?),
                (Some(Kind::Number), Some(text)) => Some(Value::Number(Number::of_column(text)?)),
                (Some(Kind::Boolean), Some("t")) => Some(Value::Boolean(true)),
                (Some(Kind::Boolean), Some("f")) => Some(Value::Boolean(false)),
                (Some(Kind::Boolean), Some(_)) => return None,
            });
        }
        (read.len() == self.columns.len()).then(|| Row(read.into()))
    }

    /// Whether it lets a row through to a client with these claims, which are bound to it. Null is no.
    pub fn passes(&self, row: &Row, claims: &Bound) -> bool {
        self.verdict(row, claims) == Some(true)
    }

    /// As SQL: None is null.
    pub fn verdict(&self, row: &Row, claims: &Bound) -> Option<bool> {
        Input { row, claims }.node(&self.root)
    }
}

#[derive(Clone, Copy)]
struct Input<'a> {
    row: &'a Row,
    claims: &'a Bound,
}

impl<'a> Input<'a> {
    fn node(self, node: &Node) -> Option<bool> {
        match node {
            Node::Compare { operator, left, right } => {
                holds(*operator, self.value(left)?, self.value(right)?)
            }
            Node::AnyOf { left, parameter } => {
                let BoundClaim::List(Some(list)) = self.claims.0.get(*parameter)? else { return None };
                // Of an empty list the left side does not matter, nor whether it is null.
                let left = self.value(left);
                let equals = |member: &Option<Value>| holds(Operator::Equal, left?, member.as_ref()?);
                any(list.iter().map(equals))
            }
            Node::IsNull(Operand::Claim(parameter)) => match self.claims.0.get(*parameter)? {
                BoundClaim::Presence { is_null } => Some(*is_null),
                BoundClaim::One(_) | BoundClaim::List(_) => None,
            },
            Node::IsNull(operand) => Some(self.value(operand).is_none()),
            Node::And(parts) => all(parts.iter().map(|part| self.node(part))),
            Node::Or(parts) => any(parts.iter().map(|part| self.node(part))),
            Node::Not(node) => self.node(node).map(|verdict| !verdict),
        }
    }

    fn value<'v>(self, operand: &'v Operand) -> Option<&'v Value>
    where
        'a: 'v,
    {
        match operand {
            Operand::Column(number) => self.row.0.get(*number)?.as_ref(),
            Operand::Claim(number) => match self.claims.0.get(*number)? {
                BoundClaim::One(value) => value.as_ref(),
                BoundClaim::List(_) | BoundClaim::Presence { .. } => None,
            },
            Operand::Literal(value) => Some(value),
        }
    }
}

fn holds(operator: Operator, left: &Value, right: &Value) -> Option<bool> {
    let order = match (left, right) {
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Uuid(left), Value::Uuid(right)) => left.cmp(right),
        (Value::Boolean(left), Value::Boolean(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => left.cmp(right),
        _ => return None,
    };
    Some(match operator {
        Operator::Equal => order == Ordering::Equal,
        Operator::NotEqual => order != Ordering::Equal,
        Operator::Less => order == Ordering::Less,
        Operator::LessOrEqual => order != Ordering::Greater,
        Operator::Greater => order == Ordering::Greater,
        Operator::GreaterOrEqual => order != Ordering::Less,
    })
}

/// False wins, then null.
fn all(verdicts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    any(verdicts.map(|verdict| verdict.map(|verdict| !verdict))).map(|verdict| !verdict)
}

/// True wins, then null.
fn any(verdicts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut sum = Some(false);
    for verdict in verdicts {
        match verdict {
            Some(true) => return Some(true),
            None => sum = None,
            Some(false) => {}
        }
    }
    sum
}
