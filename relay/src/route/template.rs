//! Channel templates of routes: `org:{organization_id}:conv:{conversation_id}`.

use super::topic::{OPTIONAL_PREFIX, Scope};

/// A channel name with columns in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Literal(String),
    Column(String),
}

/// The text is not a template.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a channel template: {template:?}: {problem}")]
pub struct TemplateError {
    template: String,
    problem: &'static str,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let error = |problem| TemplateError { template: text.to_owned(), problem };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(brace);
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            let tail =
                tail.strip_prefix('{').ok_or_else(|| error("a closing brace without an opening one"))?;
            let (column, tail) =
                tail.split_once('}').ok_or_else(|| error("an opening brace without a closing one"))?;
            if column.is_empty() || column.contains('{') {
                return Err(error("braces must hold one column name"));
            }
            pieces.push(Piece::Column(column.to_owned()));
            rest = tail;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        if pieces.is_empty() {
            return Err(error("it is empty"));
        }
        Ok(Self { pieces })
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Which of an organization's channels it makes, and the columns of the organization and of the conversation. None
    /// for other channels, and for those that a column alone does not name.
    pub fn of_organization(&self) -> Option<(Scope, &str, Option<&str>)> {
        use Piece::{Column, Literal};
        let (Literal(first), rest) = self.pieces.split_first()? else { return None };
        if first.strip_prefix(OPTIONAL_PREFIX).unwrap_or(first) != "org:" {
            return None;
        }
        match rest {
            [Column(organization)] => Some((Scope::Organization, organization, None)),
            [Column(organization), Literal(end)] if end == ":conversations" => {
                Some((Scope::Conversations, organization, None))
            }
            [Column(organization), Literal(scope), Column(conversation)] => {
                let scope = match scope.as_str() {
                    ":conv:" => Scope::Conversation,
                    ":widget:" => Scope::Widget,
                    _ => return None,
                };
                Some((scope, organization, Some(conversation)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_columns_alternate() {
        let template = Template::parse("org:{organization_id}:conv:{id}").unwrap();
        let literal = |text: &str| Piece::Literal(text.to_owned());
        let column = |text: &str| Piece::Column(text.to_owned());
        assert_eq!(
            template.pieces(),
            [literal("org:"), column("organization_id"), literal(":conv:"), column("id")]
        );
        assert_eq!(Template::parse("lobby").unwrap().pieces(), [literal("lobby")]);
    }

    #[test]
    fn unbalanced_braces_are_refused() {
        for text in ["", "a}", "{a", "{}", "{{a}}", "org:{a}:{"] {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn channels_of_organizations_are_known_by_their_form() {
        let check = |template: &str, expected: Option<(Scope, &str, Option<&str>)>| {
            assert_eq!(Template::parse(template).unwrap().of_organization(), expected, "{template}");
        };
        check("org:{o}", Some((Scope::Organization, "o", None)));
        check("org:{o}:conversations", Some((Scope::Conversations, "o", None)));
        check("bcast:org:{o}:conv:{c}", Some((Scope::Conversation, "o", Some("c"))));
        check("org:{o}:widget:{c}", Some((Scope::Widget, "o", Some("c"))));
        for other in ["shop:{o}", "org:{o}:other:{c}", "org:{o}:conv:7", "lobby", "{o}", "org:{o}{c}"] {
            check(other, None);
        }
    }
}
