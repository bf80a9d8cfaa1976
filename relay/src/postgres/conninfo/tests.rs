use super::*;

fn none(_: &str) -> Option<String> {
    None
}

/// Hosts as `name:port`, with the address or directory where that differs.
fn hosts_of(conninfo: &Conninfo) -> Vec<String> {
    let show = |host: &Host| match &host.address {
        HostAddress::Unix(directory) => format!("{}:{}", directory.display(), host.port),
        HostAddress::Tcp { name, ip: None } => format!("{name}:{}", host.port),
        HostAddress::Tcp { name, ip: Some(ip) } => format!("{name}({ip}):{}", host.port),
    };
    conninfo.hosts.iter().map(show).collect()
}

fn check(text: &str, hosts: &[&str]) -> Conninfo {
    let conninfo = Conninfo::parse(text, none).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(hosts_of(&conninfo), hosts, "{text}");
    conninfo
}

#[test]
fn hosts_addresses_and_ports_go_together() {
    check("user=u", &["/var/run/postgresql:5432"]);
    check("host=h user=u", &["h:5432"]);
    check("host=/tmp,h port=6000,6001 user=u", &["/tmp:6000", "h:6001"]);
    check("host=a,b port=6000 user=u", &["a:6000", "b:6000"]);
    check("host=db.example hostaddr=127.0.0.3 user=u", &["db.example(127.0.0.3):5432"]);
    check("postgres://u@%2Frun%2Fpg:7000/d", &["/run/pg:7000"]);
    check("postgresql://u@[::1]:7000,h/d", &["::1:7000", "h:5432"]);
    check("postgres://u@/d?host=/tmp&port=1", &["/tmp:1"]);
}

#[test]
fn a_url_and_pairs_say_the_same() {
    let texts = [
        "postgres://us%65r:pa%3Ass@h/d?sslmode=verify-ca&application_name=a%20b",
        r"user=user password='pa:ss' host=h dbname = d sslmode=verify-ca application_name='a b'",
    ];
    for text in texts {
        let conninfo = check(text, &["h:5432"]);
        assert_eq!((conninfo.user(), conninfo.database()), ("user", "d"));
        assert_eq!(conninfo.password.as_deref(), Some("pa:ss"));
        assert_eq!(conninfo.ssl_mode, SslMode::VerifyCa);
        assert_eq!(conninfo.application_name, "a b");
    }
    let quoted = check(r"host=h user=u password='it\'s \\'", &["h:5432"]);
    assert_eq!(quoted.password.as_deref(), Some(r"it's \"));
}

#[test]
fn a_password_in_a_url_ends_where_libpq_ends_it() {
    for password in
        ["pa?ss", "pa:ss", "pa#ss", "pa&ss=1", "pa+ss", "pa,ss", "pa[ss]", "pa ss", r"pa\ss", "p\u{e4}"]
    {
        let url = format!("postgres://u:{password}@h:1/d?sslmode=disable");
        assert_eq!(check(&url, &["h:1"]).password.as_deref(), Some(password), "{url}");
    }
    let encoded = check("postgres://u:%40%2F%3a%3F%23%25%3D%26@h", &["h:5432"]);
    assert_eq!(encoded.password.as_deref(), Some("@/:?#%=&"));
    assert_eq!(check("postgres://u@h?ssl=true", &["h:5432"]).ssl_mode, SslMode::Require);
    assert_eq!(check("postgres://u:p@h/d@b", &["h:5432"]).database(), "d@b");
    assert_eq!(check("postgres://u@h?dbname=d", &["h:5432"]).database(), "d");
}

#[test]
fn variables_fill_what_the_text_leaves_out() {
    let lookup = |name: &str| {
        let value = match name {
            "PGHOST" => "db.internal",
            "PGPORT" => "6432",
            "PGUSER" => "relay",
            "PGPASSWORD" => "secret",
            "PGSSLMODE" => "verify-full",
            "PGSSLROOTCERT" => "/ca.crt",
            "PGSSLCERT" => "/client.crt",
            "PGSSLKEY" => "/client.key",
            "PGCONNECT_TIMEOUT" => "3",
            "PGCHANNELBINDING" => "require",
            "PGTARGETSESSIONATTRS" => "primary",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let conninfo = Conninfo::parse("", lookup).unwrap();
    assert_eq!(hosts_of(&conninfo), ["db.internal:6432"]);
    assert_eq!((conninfo.user(), conninfo.database()), ("relay", "relay"));
    assert_eq!(conninfo.ssl_mode, SslMode::VerifyFull);
    assert_eq!(conninfo.root_certificates, Roots::File("/ca.crt".into()));
    assert_eq!(conninfo.client_certificate.as_ref().unwrap().key, PathBuf::from("/client.key"));
    assert_eq!(conninfo.connect_timeout, Duration::from_secs(3));
    assert_eq!(conninfo.channel_binding, ChannelBinding::Require);
    let conninfo = Conninfo::parse("postgres://a@h:1/d?sslmode=disable", lookup).unwrap();
    assert_eq!(hosts_of(&conninfo), ["h:1"]);
    assert_eq!((conninfo.user(), conninfo.database()), ("a", "d"));
    assert_eq!(conninfo.ssl_mode, SslMode::Disable);
}

/// As libpq reads them: fuzz/fuzz_targets/conninfo.rs asks it.
#[test]
fn what_a_text_leaves_empty_is_the_default_and_not_the_variable() {
    let lookup = |name: &str| match name {
        "PGHOST" => Some("elsewhere".to_owned()),
        "PGPORT" => Some("6000".to_owned()),
        "PGDATABASE" => Some("other".to_owned()),
        _ => None,
    };
    for (text, hosts, database) in [
        ("postgres://u@h/d", &["h:6000"][..], "d"),
        ("postgres://u@a,b", &["a:5432", "b:5432"], "other"),
        ("postgres://u@a,b:7000/", &["a:5432", "b:7000"], "other"),
        ("postgres://u@/d?host=", &["/var/run/postgresql:6000"], "d"),
        ("postgres://u@h?port=&dbname=", &["h:5432"], "u"),
        ("user=u host='' port=''", &["/var/run/postgresql:5432"], "other"),
    ] {
        let conninfo = Conninfo::parse(text, lookup).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (hosts_of(&conninfo).as_slice(), conninfo.database()),
            (&hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()[..], database),
            "{text}"
        );
    }
}

#[test]
fn the_parts_of_a_url_end_where_libpq_ends_them() {
    let ssl = check("postgres://u@h/d?s%73l=tru%65&", &["h:5432"]);
    assert_eq!(ssl.ssl_mode, SslMode::Require);
    check("postgres://u@[fe80::1%25eth0]:1/d", &["fe80::1%eth0:1"]);
    for text in [
        "postgres://u@h/d?&sslmode=disable",
        "postgres://u@h/d?sslmode=disable&&port=1",
        "postgres://u@[]/d",
        "postgres://u@[::1]7000/d",
    ] {
        assert!(Conninfo::parse(text, none).is_err(), "{text}");
    }
}

#[test]
fn the_systems_roots_demand_the_name_too() {
    assert_eq!(check("host=h user=u sslrootcert=system", &["h:5432"]).ssl_mode, SslMode::VerifyFull);
    assert!(Conninfo::parse("user=u sslrootcert=system sslmode=require", none).is_err());
}

#[test]
fn what_is_wrong_is_named_and_no_password_is_quoted() {
    for text in [
        "postgres://u:hunter2@h:notaport/d",
        "user=u password=hunter2 sslmode=maybe",
        "user=u password=hunter2 sslcrl=/crl",
        "user=u password=hunter2 sslcert=/only",
        "user=u password=hunter2 target_session_attrs=standby",
        "user=u password='hunter2",
        "hunter2",
        "password=hunter2",
        "postgres://u:hunter2@h/d?sslmode",
        "user=u password=hunter2 connect_timeout=soon",
        // Parts of a password where something else is expected.
        "postgres://u:x/hunter2@h/d",
        "postgres://u:1/hunter2@h/d",
        "postgres://u:x@hunter2@h/d",
        "postgres://u:hunter2%@h/d",
        "postgres://u:hunter2%zz@h/d",
        "postgres://u:hunter2%00@h/d",
        "postgres://u@h/d?password=hunter2=x",
        "postgres://u@h/d?password=x&hunter2",
        "postgres://u@h/d?password=x&hunter2=",
        "postgres://u@h/d?ssl=hunter2",
        "user=u password=x hunter2=x",
        "user=u password=x hunter2",
        "user=u password='x' hunter2='x",
        "jdbc:postgresql://h/d?user=u&password=hunter2",
    ] {
        let error = Conninfo::parse(text, none).err().unwrap_or_else(|| panic!("{text} passes"));
        assert!(!error.contains("hunter2"), "{error}");
    }
    for (text, advice) in [
        ("postgres://u:x/y@h/d", "/ as %2F"),
        ("postgres://u:x@y@h/d", "@ as %40"),
        ("postgres://u:50%@h/d", "% as %25"),
        ("user=u password=x y", "single quotes"),
        ("user=u sslcrl=/crl", "connection parameter sslcrl is not supported"),
    ] {
        let error = Conninfo::parse(text, none).unwrap_err();
        assert!(error.contains(advice), "{text}: {error}");
    }
    let conninfo = Conninfo::parse("user=u password=hunter2", none).unwrap();
    assert!(!format!("{conninfo:?}").contains("hunter2"));
}
