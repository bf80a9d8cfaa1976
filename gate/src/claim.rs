//! What a token says, in the form that a gate asks for.

use crate::gate::{Kind, Value};
use crate::number::Number;

/// A claim as the token has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Missing, or null.
    Null,
    Text(String),
    /// As written in the token.
    Number(String),
    Boolean(bool),
    List(Vec<Claim>),
    /// An object.
    Other,
}

/// The claims that a gate asks for. Clients for whom these are equal see the same rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bound(pub(crate) Box<[BoundClaim]>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BoundClaim {
    One(Option<Value>),
    List(Option<Vec<Option<Value>>>),
    /// Asked for by `is null` alone.
    Presence {
        is_null: bool,
    },
}

/// A claim that a gate asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Parameter {
    pub(crate) path: Vec<String>,
    pub(crate) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    One(Kind),
    List(Kind),
    Presence,
}

impl BoundClaim {
    pub(crate) fn new(claim: Claim, form: Form) -> Self {
        match (form, claim) {
            (Form::Presence, claim) => Self::Presence { is_null: claim == Claim::Null },
            (Form::One(kind), claim) => Self::One(value(&claim, kind)),
            (Form::List(kind), Claim::List(claims)) => {
                Self::List(Some(claims.iter().map(|claim| value(claim, kind)).collect()))
            }
            (Form::List(_), _) => Self::List(None),
        }
    }
}

/// None, which is null: a claim of another form is no reason to let anything through.
fn value(claim: &Claim, kind: Kind) -> Option<Value> {
    match (kind, claim) {
        (Kind::Uuid, Claim::Text(text)) => Value::uuid(text),
        // Postgres has no text with such a character.
        (Kind::Text, Claim::Text(text)) if !text.contains('\0') => Some(Value::Text(text.as_str().into())),
        (Kind::Number, Claim::Number(text) | Claim::Text(text)) => Number::of_text(text).map(Value::Number),
        (Kind::Boolean, Claim::Boolean(value)) => Some(Value::Boolean(*value)),
        _ => None,
    }
}
