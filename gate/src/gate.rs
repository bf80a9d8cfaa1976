//! A gate whose comparisons have types.

use crate::GateError;
use crate::claim::{Bound, BoundClaim, Claim, Form, Parameter};
use crate::number::Number;
use crate::parse::{Operator, Term, TermKind, Tree, parse};

/// What a gate can do with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Uuid,
    /// Compared for equality alone, byte by byte: its order depends on a collation.
    Text,
    Boolean,
    /// Integers and numeric.
    Number,
    /// It is null or not; why it cannot be compared.
    Other(&'static str),
}

impl Type {
    /// Of a built-in type; of a domain, its base type.
    pub fn of_oid(oid: u32) -> Self {
        match oid {
            16 => Self::Boolean,
            19 | 25 | 1043 => Self::Text,
            20 | 21 | 23 | 1700 => Self::Number,
            2950 => Self::Uuid,
            700 | 701 => Self::Other("floating-point numbers are not exact"),
            1042 => Self::Other("of char(n) trailing blanks do not count"),
            1082 | 1083 | 1114 | 1184 | 1266 => Self::Other("dates and times are not compared in gates"),
            _ => Self::Other("gates do not compare values of its type"),
        }
    }
}

/// Of what type the two sides of a comparison are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Uuid,
    Text,
    Boolean,
    Number,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Number => "number",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    /// In lower case, with hyphens.
    Uuid(Box<str>),
    Text(Box<str>),
    Boolean(bool),
    Number(Number),
    /// Not null; nothing else matters.
    Opaque,
}

impl Value {
    /// In its usual form alone, in whatever case; Postgres takes others, too.
    pub(crate) fn uuid(text: &str) -> Option<Self> {
        let is_uuid = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        is_uuid.then(|| Self::Uuid(text.to_ascii_lowercase().into()))
    }
}

/// Which rows a client may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    pub(crate) root: Node,
    pub(crate) columns: Vec<Column>,
    pub(crate) parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// None: it is only asked whether it is null.
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Compare { operator: Operator, left: Operand, right: Operand },
    AnyOf { left: Operand, parameter: usize },
    IsNull(Operand),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// By its number among those of the gate.
    Column(usize),
    /// By its number among the parameters.
    Claim(usize),
    Literal(Value),
}

impl Gate {
    /// Reads a gate. `column`: what type a column has, None if there is none of that name.
    pub fn new(text: &str, column: impl Fn(&str) -> Option<Type>) -> Result<Self, GateError> {
        let tree = parse(text)?;
        let mut checker = Checker { text, column, columns: Vec::new(), parameters: Vec::new() };
        let root = checker.node(tree)?;
        let Checker { columns, parameters, .. } = checker;
        Ok(Self { root, columns, parameters })
    }

    /// The columns that it reads, in the order in which it wants their values.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// What it asks of a client's claims. `claim`: the claim at a path.
    pub fn bind(&self, claim: impl Fn(&[String]) -> Claim) -> Bound {
        let bind = |parameter: &Parameter| BoundClaim::new(claim(&parameter.path), parameter.form);
        Bound(self.parameters.iter().map(bind).collect())
    }
}

struct Checker<'a, F> {
    text: &'a str,
    column: F,
    columns: Vec<Column>,
    parameters: Vec<Parameter>,
}

/// What a side of a comparison is by itself.
enum Side {
    Column(Kind),
    /// Takes the type of the other side.
    Claim,
    Literal(Kind),
}

impl<F: Fn(&str) -> Option<Type>> Checker<'_, F> {
    fn error(&self, term: &Term, problem: impl Into<String>) -> GateError {
        GateError::new(self.text, term.offset, problem)
    }

    fn node(&mut self, tree: Tree) -> Result<Node, GateError> {
        Ok(match tree {
            Tree::Compare(operator, left, right) => {
                let kind = self.common_kind(&left, &right)?;
                if operator.is_order() && !matches!(kind, Kind::Uuid | Kind::Number) {
                    let why = match kind {
                        Kind::Text => "the order of texts depends on a collation",
                        _ => "booleans have no order here",
                    };
                    return Err(self.error(
                        &left,
                        format!("{} is only between numbers or uuids: {why}", operator.sign()),
                    ));
                }
                let (left, right) = (self.operand(left, kind)?, self.operand(right, kind)?);
                Node::Compare { operator, left, right }
            }
            Tree::In(left, members) => {
                let mut common = None;
                for member in &members {
                    let kind = self.common_kind(&left, member)?;
                    if *common.get_or_insert(kind) != kind {
                        return Err(self.error(member, "the list has values of different types"));
                    }
                }
                let equals = |member: Term| -> Result<Node, GateError> {
                    let kind = self.common_kind(&left, &member)?;
                    let (left, right) = (self.operand(left.clone(), kind)?, self.operand(member, kind)?);
                    Ok(Node::Compare { operator: Operator::Equal, left, right })
                };
                Node::Or(members.into_iter().map(equals).collect::<Result<_, _>>()?)
            }
            Tree::AnyOf(left, list) => {
                let kind = match self.side(&left)? {
                    Side::Column(kind) | Side::Literal(kind) => kind,
                    Side::Claim => {
                        return Err(self.error(&left, "= ANY is between a column or a literal and a claim"));
                    }
                };
                let left = self.operand(left, kind)?;
                let TermKind::Claim(path) = list.kind else {
                    return Err(
                        self.error(&list, "ANY takes a claim that is a list, as in = any (claims.shops)")
                    );
                };
                Node::AnyOf { left, parameter: self.parameter(path, Form::List(kind)) }
            }
            Tree::IsNull(term) => Node::IsNull(match term.kind {
                TermKind::Column(ref name) => {
                    self.type_of(&term, name)?;
                    Operand::Column(self.column_number(name, None))
                }
                TermKind::Claim(path) => Operand::Claim(self.parameter(path, Form::Presence)),
                _ => return Err(self.error(&term, "a literal is never null")),
            }),
            Tree::Truth(term) => {
                let left = match self.side(&term)? {
                    Side::Column(Kind::Boolean) | Side::Claim => self.operand(term, Kind::Boolean)?,
                    Side::Column(_) => {
                        return Err(self.error(&term, "it is no boolean, and is compared with nothing"));
                    }
                    Side::Literal(_) => return Err(self.error(&term, "a literal is compared with nothing")),
                };
                Node::Compare {
                    operator: Operator::Equal,
                    left,
                    right: Operand::Literal(Value::Boolean(true)),
                }
            }
            Tree::And(parts) => Node::And(self.nodes(parts)?),
            Tree::Or(parts) => Node::Or(self.nodes(parts)?),
            Tree::Not(tree) => Node::Not(Box::new(self.node(*tree)?)),
        })
    }

    fn nodes(&mut self, parts: Vec<Tree>) -> Result<Vec<Node>, GateError> {
        parts.into_iter().map(|part| self.node(part)).collect()
    }

    fn type_of(&self, term: &Term, name: &str) -> Result<Type, GateError> {
        (self.column)(name).ok_or_else(|| self.error(term, format!("there is no column {name:?}")))
    }

    fn side(&self, term: &Term) -> Result<Side, GateError> {
        Ok(match &term.kind {
            TermKind::Claim(_) => Side::Claim,
            TermKind::Text(_) => Side::Literal(Kind::Text),
            TermKind::Number(_) => Side::Literal(Kind::Number),
            TermKind::Boolean(_) => Side::Literal(Kind::Boolean),
            TermKind::Column(name) => Side::Column(match self.type_of(term, name)? {
                Type::Uuid => Kind::Uuid,
                Type::Text => Kind::Text,
                Type::Boolean => Kind::Boolean,
                Type::Number => Kind::Number,
                Type::Other(why) => {
                    let problem = format!("column {name:?} can only be tested for null: {why}");
                    return Err(self.error(term, problem));
                }
            }),
        })
    }

    /// Of what type both sides are.
    fn common_kind(&self, left: &Term, right: &Term) -> Result<Kind, GateError> {
        match (self.side(left)?, self.side(right)?) {
            (Side::Column(left_kind), Side::Column(right_kind)) if left_kind != right_kind => {
                let problem = format!("{} is not comparable with {}", left_kind.name(), right_kind.name());
                Err(self.error(right, problem))
            }
            (Side::Column(kind), _) | (_, Side::Column(kind)) => Ok(kind),
            (Side::Claim, Side::Literal(kind)) | (Side::Literal(kind), Side::Claim) => Ok(kind),
            (Side::Claim, Side::Claim) => {
                Err(self.error(left, "two claims are not compared: neither says of what type they are"))
            }
            (Side::Literal(_), Side::Literal(_)) => Err(self.error(left, "two literals are not compared")),
        }
    }

    fn operand(&mut self, term: Term, kind: Kind) -> Result<Operand, GateError> {
        let value = match &term.kind {
            TermKind::Column(name) => return Ok(Operand::Column(self.column_number(name, Some(kind)))),
            TermKind::Claim(path) => {
                return Ok(Operand::Claim(self.parameter(path.clone(), Form::One(kind))));
            }
            TermKind::Text(text) => match kind {
                Kind::Text if text.contains('\0') => None,
                Kind::Text => Some(Value::Text(text.as_str().into())),
                Kind::Uuid => Value::uuid(text),
                Kind::Number => Number::of_text(text).map(Value::Number),
                Kind::Boolean => None,
            },
            TermKind::Number(digits) if kind == Kind::Number => Number::of_text(digits).map(Value::Number),
            TermKind::Boolean(value) if kind == Kind::Boolean => Some(Value::Boolean(*value)),
            TermKind::Number(_) | TermKind::Boolean(_) => None,
        };
        let problem = || self.error(&term, format!("it is no literal of type {}", kind.name()));
        value.map(Operand::Literal).ok_or_else(problem)
    }

    fn column_number(&mut self, name: &str, kind: Option<Kind>) -> usize {
        let known = self.columns.iter().position(|column| column.name == name);
        let number = known.unwrap_or_else(|| {
            self.columns.push(Column { name: name.to_owned(), kind: None });
            self.columns.len() - 1
        });
        let column = &mut self.columns[number];
        column.kind = column.kind.or(kind);
        number
    }

    fn parameter(&mut self, path: Vec<String>, form: Form) -> usize {
        let parameter = Parameter { path, form };
        self.parameters.iter().position(|known| *known == parameter).unwrap_or_else(|| {
            self.parameters.push(parameter);
            self.parameters.len() - 1
        })
    }
}
