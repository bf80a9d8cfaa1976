//! Where to serve, and who may connect to a unix socket of the relay.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to serve HTTP and WebSockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `HOST:PORT`; port 0 takes a free one and logs it.
    Tcp(String),
    /// `unix:PATH`; a stale socket file is replaced.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("unix: needs a path".to_owned())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err("an address is HOST:PORT or unix:PATH, for example 127.0.0.1:8080".to_owned()),
        }
    }
}

/// Permission bits, written in octal as for chmod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim().trim_start_matches("0o");
        let is_octal = (3..=4).contains(&digits.len());
        let bits = u32::from_str_radix(digits, 8).ok().filter(|bits| is_octal && *bits <= 0o777);
        bits.map(Self).ok_or_else(|| "three octal digits, as for chmod: 660 or 0660".to_owned())
    }
}

/// A group of users, by its name in /etc/group or its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: String,
    id: u32,
}

impl Group {
    pub fn id(&self) -> u32 {
        self.id
    }

    fn find(name: &str, groups: &str) -> Option<u32> {
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let id = Self::find(name, &groups).or_else(|| name.parse().ok());
        let id = id.ok_or("no group of this name in /etc/group; a number is taken as it is")?;
        Ok(Self { name: name.to_owned(), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_tcp_or_a_path() {
        assert_eq!("0.0.0.0:80".parse(), Ok(ListenAddress::Tcp("0.0.0.0:80".into())));
        assert_eq!("unix:/run/campfire.sock".parse(), Ok(ListenAddress::Unix("/run/campfire.sock".into())));
        assert!(["8080", "unix:", ":80", "h:x"].iter().all(|text| text.parse::<ListenAddress>().is_err()));
    }

    #[test]
    fn modes_are_octal() {
        for (text, bits) in [("660", 0o660), ("0660", 0o660), ("0o666", 0o666), ("777", 0o777)] {
            assert_eq!(text.parse(), Ok(Mode(bits)), "{text}");
        }
        for text in ["", "6", "66", "888", "1777", "rw-rw----", "66000"] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
        assert_eq!(Mode(0o60).to_string(), "0060");
    }

    #[test]
    fn groups_have_names_and_numbers() {
        let groups = "root:x:0:\nwww-data:x:33:caddy\n\nbroken\n";
        assert_eq!(Group::find("www-data", groups), Some(33));
        assert_eq!((Group::find("www", groups), Group::find("broken", groups)), (None, None));
        assert_eq!("4711".parse::<Group>().map(|group| group.id()), Ok(4711));
        assert_eq!("root".parse::<Group>().map(|group| group.id()), Ok(0));
        assert!("no such group".parse::<Group>().is_err());
    }
}
