//! From text to a tree whose comparisons have no types yet.

use crate::GateError;
use crate::token::{Token, tokens};

/// Longest gate, in bytes.
const BYTES_MAX: usize = 4_096;

/// How deep parentheses and `not` may go.
const DEPTH_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    fn of(sign: &str) -> Option<Self> {
        Some(match sign {
            "=" => Self::Equal,
            "<>" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    pub(crate) fn is_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// In bytes.
    pub(crate) offset: usize,
    pub(crate) kind: TermKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TermKind {
    Column(String),
    Claim(Vec<String>),
    Text(String),
    Number(String),
    Boolean(bool),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Compare(Operator, Term, Term),
    In(Term, Vec<Term>),
    /// `TERM = any (CLAIM)`
    AnyOf(Term, Term),
    IsNull(Term),
    /// A boolean by itself.
    Truth(Term),
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
}

pub(crate) fn parse(text: &str) -> Result<Tree, GateError> {
    if text.len() > BYTES_MAX {
        let problem = format!("a gate has at most {BYTES_MAX} bytes");
        return Err(GateError::new(text, 0, problem));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, next: 0, depth: 0 };
    let tree = parser.disjunction()?;
    match parser.tokens.get(parser.next) {
        None => Ok(tree),
        Some(_) => Err(parser.error("the gate should end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn offset(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), |(offset, _)| *offset)
    }

    fn error(&self, problem: impl Into<String>) -> GateError {
        GateError::new(self.text, self.offset(), problem)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn takes_word(&mut self, keyword: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(is_it);
        is_it
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Sign(known)) if *known == sign);
        self.next += usize::from(is_it);
        is_it
    }

    fn expect_sign(&mut self, sign: &str) -> Result<(), GateError> {
        match self.takes_sign(sign) {
            true => Ok(()),
            false => Err(self.error(format!("{sign} is missing"))),
        }
    }

    fn disjunction(&mut self) -> Result<Tree, GateError> {
        let mut parts = vec![self.conjunction()?];
        while self.takes_word("or") {
            parts.push(self.conjunction()?);
        }
        Ok(single(parts, Tree::Or))
    }

    fn conjunction(&mut self) -> Result<Tree, GateError> {
        let mut parts = vec![self.negation()?];
        while self.takes_word("and") {
            parts.push(self.negation()?);
        }
        Ok(single(parts, Tree::And))
    }

    fn negation(&mut self) -> Result<Tree, GateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(format!("parentheses and not go at most {DEPTH_MAX} deep")));
        }
        let tree = if self.takes_word("not") {
            Tree::Not(Box::new(self.negation()?))
        } else if self.takes_sign("(") {
            let tree = self.disjunction()?;
            self.expect_sign(")")?;
            tree
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(tree)
    }

    fn test(&mut self) -> Result<Tree, GateError> {
        let left = self.term()?;
        if self.takes_word("is") {
            let is_negated = self.takes_word("not");
            if !self.takes_word("null") {
                return Err(self.error("after IS there is only [NOT] NULL"));
            }
            return Ok(negated(is_negated, Tree::IsNull(left)));
        }
        if self.takes_word("not") {
            return match self.takes_word("in") {
                true => Ok(negated(true, self.list(left)?)),
                false => Err(self.error("after a value and NOT there is only IN")),
            };
        }
        if self.takes_word("in") {
            return self.list(left);
        }
        let operator = match self.peek() {
            Some(Token::Sign(sign)) => Operator::of(sign),
            _ => None,
        };
        let Some(operator) = operator else { return Ok(Tree::Truth(left)) };
        self.next += 1;
        if operator == Operator::Equal && self.takes_word("any") {
            self.expect_sign("(")?;
            let list = self.term()?;
            self.expect_sign(")")?;
            return Ok(Tree::AnyOf(left, list));
        }
        Ok(Tree::Compare(operator, left, self.term()?))
    }

    fn list(&mut self, left: Term) -> Result<Tree, GateError> {
        self.expect_sign("(")?;
        let mut members = vec![self.term()?];
        while self.takes_sign(",") {
            members.push(self.term()?);
        }
        self.expect_sign(")")?;
        Ok(Tree::In(left, members))
    }

    fn term(&mut self) -> Result<Term, GateError> {
        const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "is", "null", "any", "claims"];
        let offset = self.offset();
        let kind = match self.peek().cloned() {
            Some(Token::Quoted(name)) => TermKind::Column(name),
            Some(Token::Text(text)) => TermKind::Text(text),
            Some(Token::Number(digits)) => TermKind::Number(digits),
            Some(Token::Word(word)) => match word.to_ascii_lowercase() {
                word if word == "true" || word == "false" => TermKind::Boolean(word == "true"),
                word if word == "claims" => {
                    self.next += 1;
                    return Ok(Term { offset, kind: TermKind::Claim(self.path()?) });
                }
                word if word == "null" => return Err(self.error("NULL is only in IS [NOT] NULL")),
                word if KEYWORDS.contains(&word.as_str()) => {
                    return Err(self.error("a column, a claim or a literal is missing"));
                }
                word => TermKind::Column(word),
            },
            _ => return Err(self.error("a column, a claim or a literal is missing")),
        };
        self.next += 1;
        if let Some(Token::Sign("(" | ".")) = self.peek()
            && matches!(kind, TermKind::Column(_))
        {
            return Err(self.error("a gate has no functions, and no tables but the route's"));
        }
        Ok(Term { offset, kind })
    }

    /// What follows `claims`. Names are as in the token: their case counts.
    fn path(&mut self) -> Result<Vec<String>, GateError> {
        let mut path = Vec::new();
        while self.takes_sign(".") {
            match self.peek().cloned() {
                Some(Token::Word(name) | Token::Quoted(name)) => path.push(name),
                _ => return Err(self.error("the name of a claim is missing")),
            }
            self.next += 1;
        }
        match path.is_empty() {
            true => Err(self.error("claims is followed by a dot and a name, as in claims.sub")),
            false => Ok(path),
        }
    }
}

fn single(mut parts: Vec<Tree>, join: fn(Vec<Tree>) -> Tree) -> Tree {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}

fn negated(is_negated: bool, tree: Tree) -> Tree {
    if is_negated { Tree::Not(Box::new(tree)) } else { tree }
}
