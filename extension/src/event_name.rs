//! Names of events that are facts of the database or of the relay. The relay compiles this file too
//! (`relay/src/route.rs`), so that SQL and sockets refuse the same names.

const RESERVED: [&str; 5] = ["message:", "conversation:", "read:", "agent:", "campfire:"];

/// Whether clients could take the name for one of those.
pub(crate) fn is_reserved(event: &str) -> bool {
    let start: String = folded(event).take(LONGEST).collect();
    RESERVED.iter().any(|prefix| start.starts_with(prefix))
}

/// The name with all that clients ignore taken away: equal for names that they take for one.
pub(crate) fn fold(event: &str) -> String {
    folded(event).collect()
}

/// In letters, of the prefixes.
const LONGEST: usize = "conversation:".len();

/// An event's name as clients compare it: JavaScript and Python ignore case when they pick listeners, so
/// `Message:Created` would pass for `message:created`. The dot above is what lower-casing İ leaves over; a browser set
/// to Turkish drops it.
fn folded(event: &str) -> impl Iterator<Item = char> {
    event.chars().flat_map(char::to_lowercase).filter(|letter| *letter != '\u{307}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_clients_fold_is_reserved() {
        for event in [
            "message:created",
            "conversation:",
            "read:receipt",
            "agent:status:online",
            "campfire:x",
            "Message:Created",
            "CONVERSATION:updated",
            "CAMPFİRE:x",
            "m\u{307}essage:created",
            "\u{307}\u{307}READ\u{307}:receipt",
        ] {
            assert!(is_reserved(event), "{event:?}");
        }
        for event in [
            "",
            "message",
            "messages:x",
            " message:x",
            "unread:x",
            "m\u{301}essage:x",
            "campfıre:x",
            "typing:start",
        ] {
            assert!(!is_reserved(event), "{event:?}");
        }
    }

    #[test]
    fn names_that_clients_take_for_one_fold_to_one() {
        for event in ["Order:Created", "ORDER:CREATED", "order:created\u{307}"] {
            assert_eq!(fold(event), fold("order:created"), "{event:?}");
        }
        for event in ["order:create", "order:created ", "órder:created"] {
            assert_ne!(fold(event), fold("order:created"), "{event:?}");
        }
    }

    #[test]
    fn every_letter_that_folds_to_one_of_a_prefix_counts() {
        let same = |letter: char, other: char| folded(other.encode_utf8(&mut [0; 4])).eq([letter]);
        let others: Vec<char> = ('\0'..=char::MAX)
            .filter(|other| folded(other.encode_utf8(&mut [0; 4])).all(|letter| letter.is_ascii_lowercase()))
            .collect();
        assert!(others.len() > 2 * 26, "and the dotted I, and the sign of kelvin");
        for prefix in RESERVED {
            for (at, letter) in prefix.char_indices() {
                for other in others.iter().filter(|other| same(letter, **other)) {
                    let spelled = format!("{}{other}{}x", &prefix[..at], &prefix[at + 1..]);
                    assert!(is_reserved(&spelled), "{spelled:?}");
                }
            }
        }
    }
}
