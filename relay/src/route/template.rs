//! Channel templates of routes: `org:{organization_id}:conv:{conversation_id}`.

use uuid::Uuid;

use super::topic::{OPTIONAL_PREFIX, Scope, Topic};

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

    /// Which of an organization's channels it makes, if it makes those. Its text says so, never a row: a column that
    /// holds more than a uuid must not make another channel of it.
    pub fn scope(&self) -> Option<Scope> {
        let uuid = Uuid::nil().to_string();
        let name: String = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.as_str(),
                Piece::Column(_) => &uuid,
            })
            .collect();
        Topic::parse(&name).ok()?.scope()
    }

    /// Whether a row can make it name this topic.
    pub fn can_address(&self, topic: &Topic) -> bool {
        let scope = self.scope();
        scope == topic.scope() && (self.of_organization().is_some() || self.can_make(&topic.to_string()))
    }

    /// Whether it can make this name. A column stands for any text.
    fn can_make(&self, name: &str) -> bool {
        let name = name.strip_prefix(OPTIONAL_PREFIX).unwrap_or(name);
        let mut pieces = self.pieces.as_slice();
        let mut rest = name;
        if let Some((Piece::Literal(first), others)) = pieces.split_first() {
            let Some(tail) = rest.strip_prefix(first.strip_prefix(OPTIONAL_PREFIX).unwrap_or(first)) else {
                return false;
            };
            (pieces, rest) = (others, tail);
            if pieces.is_empty() {
                return rest.is_empty();
            }
        }
        if let Some((Piece::Literal(last), others)) = pieces.split_last() {
            let Some(head) = rest.strip_suffix(last.as_str()) else { return false };
            (pieces, rest) = (others, head);
        }
        // What is left begins and ends with a column: the literals between have to come in order, wherever.
        let literals = pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Column(_) => None,
        });
        for literal in literals {
            let Some((_, tail)) = rest.split_once(literal) else { return false };
            rest = tail;
        }
        true
    }

    /// Its pieces as they stand in a topic: without `bcast:`.
    pub(crate) fn canonical_pieces(&self) -> impl Iterator<Item = Piece> {
        let without_prefix = |(index, piece): (usize, &Piece)| match piece {
            Piece::Literal(text) if index == 0 => match text.strip_prefix(OPTIONAL_PREFIX) {
                Some("") => None,
                rest => Some(Piece::Literal(rest.unwrap_or(text).to_owned())),
            },
            piece => Some(piece.clone()),
        };
        self.pieces.iter().enumerate().filter_map(without_prefix)
    }

    /// The values of its columns, in their order, with which it makes a name without `bcast:`. None if there are more
    /// than `most` ways, or too many to look through.
    pub(crate) fn divisions<'a>(&self, name: &'a str, most: usize) -> Option<Vec<Vec<&'a str>>> {
        let pieces: Vec<Piece> = self.canonical_pieces().collect();
        let mut search =
            Search { most, steps_left: DIVISION_STEPS_MAX, values: Vec::new(), found: Vec::new() };
        search.divide(&pieces, name).then_some(search.found)
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

/// How far is looked for ways to divide a name.
const DIVISION_STEPS_MAX: usize = 10_000;

/// Looks for the ways to divide a name.
struct Search<'a> {
    most: usize,
    steps_left: usize,
    values: Vec<&'a str>,
    found: Vec<Vec<&'a str>>,
}

impl<'a> Search<'a> {
    /// False if it was given up.
    fn divide(&mut self, pieces: &[Piece], rest: &'a str) -> bool {
        let Some(left) = self.steps_left.checked_sub(1) else { return false };
        self.steps_left = left;
        match pieces.split_first() {
            None if rest.is_empty() => {
                self.found.push(self.values.clone());
                self.found.len() <= self.most
            }
            None => true,
            Some((Piece::Literal(text), others)) => match rest.strip_prefix(text.as_str()) {
                Some(rest) => self.divide(others, rest),
                None => true,
            },
            // What comes last takes all.
            Some((Piece::Column(_), [])) => self.take(rest, &[], ""),
            Some((Piece::Column(_), others)) => {
                let mut ends = rest.char_indices().map(|(end, _)| end).chain([rest.len()]);
                ends.all(|end| {
                    let (value, rest) = rest.split_at(end);
                    self.take(value, others, rest)
                })
            }
        }
    }

    fn take(&mut self, value: &'a str, others: &[Piece], rest: &'a str) -> bool {
        self.values.push(value);
        let goes_on = self.divide(others, rest);
        self.values.pop();
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_divided_in_every_way_that_makes_it() {
        let check = |template: &str, name: &str, expected: Option<&[&[&str]]>| {
            let divisions = Template::parse(template).unwrap().divisions(name, 3);
            let found =
                divisions.map(|found| found.iter().map(|values| values.join("|")).collect::<Vec<_>>());
            let expected =
                expected.map(|ways| ways.iter().map(|values| values.join("|")).collect::<Vec<_>>());
            assert_eq!(found, expected, "{template} {name}");
        };
        check("shop:{a}", "shop:7", Some(&[&["7"]]));
        check("shop:{a}", "shop:", Some(&[&[""]]));
        check("shop:{a}", "shops:7", Some(&[]));
        check("bcast:shop:{a}", "shop:7", Some(&[&["7"]]));
        check("lobby", "lobby", Some(&[&[]]));
        check("lobby", "lobby2", Some(&[]));
        check("s:{a}:{b}", "s:1:2:3", Some(&[&["1", "2:3"], &["1:2", "3"]]));
        check("s:{a}aa{b}", "s:aaa", Some(&[&["", "a"], &["a", ""]]));
        check("s:{a}{b}", "s:ü", Some(&[&["", "ü"], &["ü", ""]]));
        check("s:{a}{b}", "s:1234", None);
        check("s:{a}:{b}:x", "s:1:2:x", Some(&[&["1", "2"]]));
        let long = format!("s:{}", "a".repeat(1_000));
        check("s:{a}{b}{c}{d}x", &long, None);
    }

    const ORG: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    const CONV: &str = "0e37df36-f698-11e6-8dd4-cb9ced3df976";

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
    fn a_template_knows_the_names_that_it_can_make() {
        let check = |template: &str, name: &str, expected| {
            let spell = |text: &str| text.replace("ORG", ORG).replace("CONV", CONV);
            let topic = Topic::parse(&spell(name)).unwrap();
            let template = Template::parse(&spell(template)).unwrap();
            assert_eq!(template.can_address(&topic), expected, "{template:?} {name}");
        };
        check("org:{o}", "org:ORG", true);
        check("org:{o}", "org:ORG:conv:CONV", false);
        check("org:{o}:conv:{c}", "bcast:org:ORG:conv:CONV", true);
        check("bcast:org:{o}:conv:{c}", "org:ORG:conv:CONV", true);
        check("org:{o}:conv:{c}", "org:ORG:widget:CONV", false);
        check("org:{o}:conversations", "org:ORG:conversations", true);
        check("org:{o}:conversations", "org:ORG", false);
        check("shop:{a}:{b}:x", "shop:1:2:x", true);
        check("shop:{a}:{b}:x", "shop:1:x", false);
        check("shop:{a}", "org:ORG", false);
        check("lobby", "lobby", true);
        check("lobby", "lobby2", false);
        check("{a}-{b}", "1-2", true);
        check("{a}-{b}", "12", false);
        check("a{x}a", "a", false);
        check("{a}", "1", true);
        check("{a}", "org:ORG", false);
        check("o{a}", "org:ORG:conversations", false);
        check("org:{o}", "org:ORG:conversations", false);
        check("org:ORG:conv:{c}", "org:ORG:conv:CONV", true);
        check("org:ORG:conv:{c}", "org:CONV:conv:CONV", false);
    }

    #[test]
    fn the_text_of_a_template_says_whose_channels_it_makes() {
        let check = |template: &str, expected: Option<Scope>| {
            let template = Template::parse(&template.replace("ORG", ORG)).unwrap();
            assert_eq!(template.scope(), expected, "{template:?}");
        };
        check("org:{o}", Some(Scope::Organization));
        check("bcast:org:{o}:conversations", Some(Scope::Conversations));
        check("org:ORG:conv:{c}", Some(Scope::Conversation));
        check("org:ORG:widget:{c}", Some(Scope::Widget));
        for open in ["{a}", "bcast:{a}", "o{a}", "org{a}", "b{a}", "org:{a}{b}", "lobby", "shop:{a}"] {
            check(open, None);
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
