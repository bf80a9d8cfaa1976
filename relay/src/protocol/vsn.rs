//! Which serialization a socket speaks.

/// The serialization of a socket, agreed on at the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vsn {
    /// 1.0.0: JSON objects as text. What Python and older JavaScript clients speak.
    V1,
    /// 2.0.0: JSON arrays as text, broadcasts as binary.
    V2,
}

/// The client asked for a serialization that does not exist here. Answered with 403 and an empty body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("vsn is neither 1.0.x nor 2.0.x")]
pub struct UnsupportedVsn;

impl Vsn {
    /// Reads the query parameter `vsn`; without it a socket speaks 1.0.0.
    pub fn negotiate(vsn: Option<&str>) -> Result<Self, UnsupportedVsn> {
        let Some(vsn) = vsn else { return Ok(Self::V1) };
        let mut parts = vsn.split('.');
        let (Some(major), Some("0"), Some(patch), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(UnsupportedVsn);
        };
        // As semver has it: a number without leading zeros. Nobody sends a pre-release or a build.
        let is_number = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || (patch.len() > 1 && patch.starts_with('0')) {
            return Err(UnsupportedVsn);
        }
        match major {
            "1" => Ok(Self::V1),
            "2" => Ok(Self::V2),
            _ => Err(UnsupportedVsn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(vsn: &str, expected: Result<Vsn, UnsupportedVsn>) {
        assert_eq!(Vsn::negotiate(Some(vsn)), expected, "{vsn:?}");
    }

    #[test]
    fn one_and_two_are_spoken() {
        assert_eq!(Vsn::negotiate(None), Ok(Vsn::V1));
        check("1.0.0", Ok(Vsn::V1));
        check("1.0.12", Ok(Vsn::V1));
        check("2.0.0", Ok(Vsn::V2));
    }

    #[test]
    fn everything_else_is_refused() {
        for vsn in [
            "", "1", "2.0", "3.0.0", "1.1.0", "2.0.0.0", "2.0.", "2.0.x", "2.0.00", "v2.0.0", " 2.0.0",
            "2.0.-1",
        ] {
            check(vsn, Err(UnsupportedVsn));
        }
    }
}
