//! `~/.pgpass`: lines of `host:port:database:user:password`, `*` for any, `\` before `:` and `\`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tracing::warn;

use super::host::{Host, HostAddress};

/// libpq's directory of sockets goes by this name in the file.
const DEFAULT_SOCKET_HOST: &str = "localhost";

/// The first line that fits. Like libpq, passes over a file that others may read.
pub(super) fn password(file: &Path, host: &Host, database: &str, user: &str) -> Option<String> {
    let permissions = fs::metadata(file).ok().filter(fs::Metadata::is_file)?.permissions();
    if permissions.mode() & 0o077 != 0 {
        warn!(file = %file.display(), "password file is ignored, because others may read it; chmod it to 0600");
        return None;
    }
    find(&fs::read_to_string(file).ok()?, host, database, user)
}

fn find(text: &str, host: &Host, database: &str, user: &str) -> Option<String> {
    let port = host.port.to_string();
    let name = match &host.address {
        HostAddress::Tcp { name, .. } => name.as_str(),
        HostAddress::Unix(directory) if directory == Path::new("/var/run/postgresql") => DEFAULT_SOCKET_HOST,
        HostAddress::Unix(directory) => directory.to_str()?,
    };
    let wanted = [name, &port, database, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line);
        let [patterns @ .., password] = fields.as_slice() else { return None };
        let fits = patterns.len() == wanted.len()
            && patterns.iter().zip(wanted).all(|(pattern, value)| pattern == "*" || pattern == value);
        fits.then(|| password.clone())
    })
}

/// Five fields; what follows a sixth colon belongs to nobody.
fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is always one");
        match character {
            '\\' => field.extend(characters.next()),
            ':' => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let host = |address| Host { address, port: 5432 };
        let tcp = host(HostAddress::Tcp { name: "db.example".to_owned(), ip: None });
        let socket = host(HostAddress::Unix("/var/run/postgresql".into()));
        let text = "# comment\nother:*:*:*:no\ndb.example:5432:chat:relay:se\\:cret\\\\\nlocalhost:*:*:*:local\n*:*:*:relay:any";
        let check = |host, database, user, expected: Option<&str>| {
            assert_eq!(find(text, host, database, user).as_deref(), expected);
        };
        check(&tcp, "chat", "relay", Some("se:cret\\"));
        check(&tcp, "other", "relay", Some("any"));
        check(&tcp, "other", "someone", None);
        check(&socket, "chat", "someone", Some("local"));
    }

    #[test]
    fn a_file_that_others_may_read_is_passed_over() {
        let file = std::env::temp_dir().join(format!("cf-passfile-{}", std::process::id()));
        fs::write(&file, "*:*:*:*:secret\n").unwrap();
        let host = Host { address: HostAddress::Unix("/tmp".into()), port: 1 };
        for (mode, expected) in [(0o644, None), (0o600, Some("secret"))] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(password(&file, &host, "d", "u").as_deref(), expected);
        }
        fs::remove_file(&file).unwrap();
    }
}
