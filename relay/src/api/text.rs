//! Texts that clients write, as the database takes them.

use super::error::ApiError;

/// Longest name and address of a customer, in bytes.
pub(super) const DETAIL_BYTES_MAX: usize = 255;

/// A text without the spaces around it; None if nothing is left.
pub(super) fn optional(name: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let text = storable(name, &text, DETAIL_BYTES_MAX)?;
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// A message's content.
pub(super) fn content(text: &str, bytes_max: usize) -> Result<&str, ApiError> {
    let text = storable("content", text, bytes_max)?;
    if text.is_empty() { Err(ApiError::invalid("`content` is empty")) } else { Ok(text) }
}

fn storable<'t>(name: &str, text: &'t str, bytes_max: usize) -> Result<&'t str, ApiError> {
    let text = text.trim();
    if text.len() > bytes_max {
        return Err(ApiError::invalid(format!("`{name}` has more than {bytes_max} bytes")));
    }
    if text.contains('\0') {
        return Err(ApiError::invalid(format!("`{name}` has a character U+0000")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_and_bounded() {
        let name = |text: &str| optional("name", Some(text.to_owned()));
        assert_eq!(name(" Ada\n"), Ok(Some("Ada".to_owned())));
        assert_eq!((name("  "), optional("name", None)), (Ok(None), Ok(None)));
        assert!(name(&"é".repeat(127)).is_ok() && name(&"é".repeat(128)).is_err() && name("a\0b").is_err());
        assert_eq!(content(" hi ", 2), Ok("hi"));
        assert!(
            content(" \t\u{2003}", 9).is_err() && content("abc", 2).is_err() && content("\0", 9).is_err()
        );
    }
}
