use super::super::event::Event;
use super::super::rule::Operation;
use super::super::sight::Asked;
use super::*;
use crate::decode::{Decoded, Decoder};

const ORG_A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const ORG_B: &str = "bbbbbbbb-0000-4000-8000-000000000000";
const CONV: &str = "cccccccc-0000-4000-8000-000000000000";
const USER: &str = "dddddddd-0000-4000-8000-000000000000";

const UUID: u32 = 2950;
const TEXT: u32 = 25;
const BOOL: u32 = 16;

type Values<'a> = &'a [Option<&'a str>];

/// Drives router and decoder with bytes as the server sends them.
struct Stream {
    decoder: Decoder,
    router: Router,
}

impl Stream {
    fn new(routes: Vec<Route>) -> Self {
        let mut stream = Self {
            decoder: Decoder::new(),
            router: Router::new(routes, vec!["public".into()], Domains::default()),
        };
        stream.send(&[b"B", &[0; 20]]);
        stream
    }

    fn send(&mut self, parts: &[&[u8]]) -> Routed {
        match self.decoder.decode(parts.concat().into()).expect("well-formed") {
            Decoded::Change(change) => self.router.route(&change),
            _ => Routed::default(),
        }
    }

    /// `identity`: f full, i index. Columns: name, type, whether in the key.
    fn relation(&mut self, name: &str, identity: u8, columns: &[(&str, u32, bool)]) {
        let mut bytes =
            [b"R", &7_u32.to_be_bytes()[..], b"public\0", name.as_bytes(), &[0, identity]].concat();
        bytes.extend((columns.len() as u16).to_be_bytes());
        for (name, type_oid, key) in columns {
            bytes.push(u8::from(*key));
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes.extend(type_oid.to_be_bytes());
            bytes.extend((-1_i32).to_be_bytes());
        }
        self.send(&[&bytes]);
    }

    fn insert(&mut self, new: Values<'_>) -> Routed {
        self.send(&[b"I", &7_u32.to_be_bytes(), b"N", &tuple(new)])
    }

    fn update(&mut self, old: Option<(u8, Values<'_>)>, new: Values<'_>) -> Routed {
        let old = old.map(|(kind, values)| [vec![kind], tuple(values)].concat()).unwrap_or_default();
        self.send(&[b"U", &7_u32.to_be_bytes(), &old, b"N", &tuple(new)])
    }

    fn delete(&mut self, kind: u8, old: Values<'_>) -> Routed {
        self.send(&[b"D", &7_u32.to_be_bytes(), &[kind], &tuple(old)])
    }

    fn truncate(&mut self) -> Routed {
        self.send(&[b"T", &1_u32.to_be_bytes(), &[0], &7_u32.to_be_bytes()])
    }
}

/// `Some("\0")` stands for a TOASTed value that was not sent.
fn tuple(values: Values<'_>) -> Vec<u8> {
    let mut bytes = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        match value {
            None => bytes.push(b'n'),
            Some("\0") => bytes.push(b'u'),
            Some(text) => {
                bytes.push(b't');
                bytes.extend((text.len() as u32).to_be_bytes());
                bytes.extend(text.as_bytes());
            }
        }
    }
    bytes
}

fn route(id: i64, table: &str, operation: Operation, channel: &str, event: &str, columns: &[&str]) -> Route {
    Route {
        id,
        schema: "public".into(),
        table: table.into(),
        relation: None,
        operation,
        on_move: false,
        channel: Template::parse(channel).unwrap(),
        event: event.into(),
        columns: columns.iter().map(|column| (*column).into()).collect(),
        when_changed: None,
        public: false,
        snapshot_by: None,
        gate: None,
    }
}

fn check(routed: &Routed, expected: &[(&str, &str, &str)]) {
    let found: Vec<_> = routed
        .events
        .iter()
        .map(|event| {
            (
                event.topic.to_string(),
                event.event.to_string(),
                String::from_utf8_lossy(&event.payload).into_owned(),
            )
        })
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(topic, event, payload)| (topic.to_string(), event.to_string(), payload.to_string()))
        .collect();
    assert_eq!(found, expected);
}

const MIRROR: &[(&str, u32, bool)] = &[
    ("id", UUID, true),
    ("organization_id", UUID, true),
    ("status", TEXT, true),
    ("updated_at", TEXT, true),
];

fn mirror_routes() -> Vec<Route> {
    use Operation::{Delete, Insert, Update};
    let table = "realtime_conversations";
    let on_move = |route: Route| Route { on_move: true, ..route };
    let mut really =
        route(3, table, Update, "org:{organization_id}:conv:{id}", "conversation:updated", &["id", "status"]);
    really.when_changed = Some(vec!["organization_id".into(), "status".into()]);
    vec![
        on_move(route(1, table, Insert, "org:{organization_id}", "conversation:created", &["id", "status"])),
        route(2, table, Update, "org:{organization_id}", "conversation:updated", &["id", "status"]),
        really,
        on_move(route(4, table, Delete, "org:{organization_id}", "conversation:deleted", &["id"])),
        on_move(route(5, table, Delete, "org:{organization_id}:conv:{id}", "conversation:deleted", &["id"])),
    ]
}

fn mirror() -> Stream {
    let mut stream = Stream::new(mirror_routes());
    stream.relation("realtime_conversations", b'f', MIRROR);
    stream
}

#[test]
fn insert_goes_where_its_routes_say() {
    let row = [Some(CONV), Some(ORG_A), Some("open"), Some("t1")];
    check(
        &mirror().insert(&row),
        &[(
            &format!("org:{ORG_A}"),
            "conversation:created",
            &format!(r#"{{"id":"{CONV}","status":"open"}}"#),
        )],
    );
}

#[test]
fn update_of_other_columns_leaves_when_changed_routes_quiet() {
    let old = [Some(CONV), Some(ORG_A), Some("open"), Some("t1")];
    let new = [Some(CONV), Some(ORG_A), Some("open"), Some("t2")];
    let payload = format!(r#"{{"id":"{CONV}","status":"open"}}"#);
    check(
        &mirror().update(Some((b'O', &old)), &new),
        &[(&format!("org:{ORG_A}"), "conversation:updated", &payload)],
    );
}

#[test]
fn update_that_changes_a_column_fires_when_changed_routes() {
    let old = [Some(CONV), Some(ORG_A), Some("open"), Some("t1")];
    let new = [Some(CONV), Some(ORG_A), None, Some("t1")];
    let payload = format!(r#"{{"id":"{CONV}","status":null}}"#);
    check(
        &mirror().update(Some((b'O', &old)), &new),
        &[
            (&format!("org:{ORG_A}"), "conversation:updated", &payload),
            (&format!("org:{ORG_A}:conv:{CONV}"), "conversation:updated", &payload),
        ],
    );
}

#[test]
fn move_to_another_organization_is_a_delete_there_and_an_insert_here() {
    let old = [Some(CONV), Some(ORG_A), Some("open"), Some("t1")];
    let new = [Some(CONV), Some(ORG_B), Some("closed"), Some("t1")];
    let routed = mirror().update(Some((b'O', &old)), &new);
    let gone = format!(r#"{{"id":"{CONV}"}}"#);
    check(
        &routed,
        &[
            (
                &format!("org:{ORG_B}"),
                "conversation:created",
                &format!(r#"{{"id":"{CONV}","status":"closed"}}"#),
            ),
            (&format!("org:{ORG_A}"), "conversation:deleted", &gone),
            (&format!("org:{ORG_A}:conv:{CONV}"), "conversation:deleted", &gone),
        ],
    );
    let (organization, conversation) = (ORG_A.parse().unwrap(), CONV.parse().unwrap());
    assert_eq!(routed.control, [ControlChange::ConversationGone { organization, conversation }]);
}

#[test]
fn delete_tells_its_channels_and_ends_the_conversation() {
    let routed = mirror().delete(b'O', &[Some(CONV), Some(ORG_A), Some("open"), Some("t1")]);
    assert_eq!(routed.events.len(), 2);
    let (organization, conversation) = (ORG_A.parse().unwrap(), CONV.parse().unwrap());
    assert_eq!(routed.control, [ControlChange::ConversationGone { organization, conversation }]);
    let channels = ["org:{organization_id}", "org:{organization_id}:conv:{id}"];
    let channels = channels.iter().map(|channel| Template::parse(channel).unwrap()).collect();
    let emptied = ControlChange::Emptied { channels, public: Vec::new() };
    assert_eq!(mirror().truncate().control, [emptied, ControlChange::AllConversationsGone]);
}

const MESSAGES: &[(&str, u32, bool)] =
    &[("id", UUID, true), ("organization_id", UUID, true), ("content", TEXT, false)];

fn messages(routes: Vec<Route>) -> Stream {
    let mut stream = Stream::new(routes);
    stream.relation("messages", b'i', MESSAGES);
    stream
}

#[test]
fn a_moved_message_is_no_new_message() {
    // The conversation's move cascades to its messages; only the key of the old row is sent.
    let routes =
        vec![route(1, "messages", Operation::Insert, "org:{organization_id}", "message:created", &["id"])];
    let old = [Some(CONV), Some(ORG_A), None];
    let new = [Some(CONV), Some(ORG_B), Some("hi")];
    check(&messages(routes).update(Some((b'K', &old)), &new), &[]);
}

#[test]
fn what_was_not_sent_is_left_out_rather_than_null() {
    let routes = vec![
        route(
            1,
            "messages",
            Operation::Update,
            "org:{organization_id}",
            "message:updated",
            &["id", "content"],
        ),
        route(
            2,
            "messages",
            Operation::Delete,
            "org:{organization_id}",
            "message:deleted",
            &["content", "id"],
        ),
    ];
    let mut stream = messages(routes);
    let payload = format!(r#"{{"id":"{CONV}"}}"#);
    let topic = format!("org:{ORG_A}");
    let toasted = [Some(CONV), Some(ORG_A), Some("\0")];
    check(&stream.update(None, &toasted), &[(&topic, "message:updated", &payload)]);
    check(&stream.delete(b'K', &[Some(CONV), Some(ORG_A), None]), &[(&topic, "message:deleted", &payload)]);
}

#[test]
fn unchanged_toast_is_read_from_a_whole_old_row() {
    let routes = vec![route(
        1,
        "messages",
        Operation::Update,
        "org:{organization_id}",
        "message:updated",
        &["content"],
    )];
    let mut stream = Stream::new(routes);
    stream.relation("messages", b'f', MESSAGES);
    let old = [Some(CONV), Some(ORG_A), Some("long")];
    let new = [Some(CONV), Some(ORG_A), Some("\0")];
    check(
        &stream.update(Some((b'O', &old)), &new),
        &[(&format!("org:{ORG_A}"), "message:updated", r#"{"content":"long"}"#)],
    );
}

#[test]
fn one_event_a_channel_and_the_lowest_route_wins() {
    let routes = vec![
        route(9, "messages", Operation::Insert, "org:{organization_id}", "second", &["id"]),
        route(2, "messages", Operation::Insert, "org:{organization_id}", "first", &["id"]),
    ];
    let routed = messages(routes).insert(&[Some(CONV), Some(ORG_A), Some("hi")]);
    check(&routed, &[(&format!("org:{ORG_A}"), "first", &format!(r#"{{"id":"{CONV}"}}"#))]);
    assert_eq!(routed.collisions, 1);
}

#[test]
fn a_channel_that_cannot_be_built_is_counted() {
    let routes = vec![route(1, "messages", Operation::Insert, "org:{content}", "x", &["id"])];
    let mut stream = messages(routes);
    for content in [None, Some("no uuid")] {
        let routed = stream.insert(&[Some(CONV), Some(ORG_A), content]);
        assert_eq!((routed.events.len(), routed.unaddressed), (0, 1));
        let problem = routed.misaddress.map(|misaddress| (misaddress.route, misaddress.problem)).unwrap();
        let expected = match content {
            None => "column \"content\" is null",
            Some(_) => "org: is followed by the organization's uuid, in lower case",
        };
        assert_eq!(problem, (1, expected.to_owned()));
    }
}

#[test]
fn no_row_chooses_the_channel_of_an_organization() {
    let conversations = format!("org:{ORG_A}:conversations");
    let rows = [
        ("{content}", conversations.as_str()),
        ("bcast:{content}", &conversations),
        ("{content}", &format!("bcast:{conversations}")),
        ("o{content}", &conversations[1..]),
        ("org{content}", &conversations[3..]),
        ("b{content}", &format!("cast:{conversations}")),
        ("org:{content}", &conversations[4..]),
        ("org:{content}", &format!("{ORG_A}:conv:{CONV}")),
    ];
    for (template, content) in rows {
        let routes = vec![route(1, "messages", Operation::Insert, template, "message:created", &["id"])];
        let routed = messages(routes).insert(&[Some(CONV), Some(ORG_A), Some(content)]);
        assert_eq!((routed.events.len(), routed.unaddressed), (0, 1), "{template} {content}");
        let problem = routed.misaddress.map(|misaddress| misaddress.problem).unwrap();
        assert!(!problem.contains(ORG_A), "{problem}");
    }
    // A route of before, to channels outside org:, goes on.
    let routes = vec![route(1, "messages", Operation::Insert, "{content}", "x", &["id"])];
    let routed = messages(routes).insert(&[Some(CONV), Some(ORG_A), Some("room:7")]);
    assert_eq!((routed.events.len(), routed.unaddressed), (1, 0));
}

#[test]
fn a_users_route_is_of_its_table_whatever_the_name() {
    let of = |relation| Route {
        relation: Some(relation),
        ..route(1, "orders", Operation::Insert, "lobby", "made", &["id"])
    };
    let mut stream = Stream::new(vec![of(7)]);
    for name in ["orders", "sales"] {
        stream.relation(name, b'd', &[("id", UUID, true)]);
        check(&stream.insert(&[Some(CONV)]), &[("lobby", "made", &format!(r#"{{"id":"{CONV}"}}"#))]);
    }
    // Another table has the name now.
    let mut stream = Stream::new(vec![of(8)]);
    stream.relation("orders", b'd', &[("id", UUID, true)]);
    check(&stream.insert(&[Some(CONV)]), &[]);
}

/// What `alter table … rename column` and `campfire.publish_without()` leave of a route.
#[test]
fn an_event_goes_out_without_columns_that_are_not_published_any_more() {
    use Operation::{Insert, Update};
    let gone = "columns that are gone";
    let mut update = route(3, "messages", Update, "org:{organization_id}", "changed", &["id"]);
    update.when_changed = Some(vec![gone.into()]);
    let mut partly = route(4, "messages", Update, "mine", "changed", &["id"]);
    partly.when_changed = Some(vec![gone.into(), "content".into()]);
    let mut stream = Stream::new(vec![
        route(1, "messages", Insert, "org:{organization_id}", "made", &["id", gone]),
        route(2, "messages", Insert, "to:{columns that are gone}", "made", &["id"]),
        update,
        partly,
    ]);
    stream.relation("messages", b'f', MESSAGES);
    let row = [Some(CONV), Some(ORG_A), Some("hi")];
    let (topic, payload) = (format!("org:{ORG_A}"), format!(r#"{{"id":"{CONV}"}}"#));
    check(&stream.insert(&row), &[(&topic, "made", &payload)]);
    check(&stream.update(Some((b'O', &row)), &row), &[(&topic, "changed", &payload)]);
    let changed = [Some(CONV), Some(ORG_A), Some("ho")];
    check(
        &stream.update(Some((b'O', &row)), &changed),
        &[(&topic, "changed", &payload), ("mine", "changed", &payload)],
    );
}

#[test]
fn a_column_that_a_partition_did_not_log_is_unknown_and_no_move() {
    let mut routes = mirror_routes();
    routes[2].when_changed = None;
    let mut stream = Stream::new(routes);
    stream.relation("realtime_conversations", b'i', MIRROR);
    // The partition's own key is the id alone, whatever the table's index says.
    let old = [Some(CONV), None, None, None];
    let new = [Some(CONV), Some(ORG_A), Some("open"), Some("t1")];
    let routed = stream.update(Some((b'K', &old)), &new);
    let events: Vec<_> = routed.events.iter().map(|event| &*event.event).collect();
    assert_eq!(events, ["conversation:updated", "conversation:updated"]);
    assert_eq!((routed.unaddressed, routed.control), (0, Vec::new()));
}

#[test]
fn padding_is_no_part_of_a_channels_name() {
    const BPCHAR: u32 = 1042;
    let mut stream =
        Stream::new(vec![route(1, "shops", Operation::Insert, "shop:{code}:{name}", "x", &["code"])]);
    stream.relation("shops", b'd', &[("code", BPCHAR, true), ("name", TEXT, false)]);
    let routed = stream.insert(&[Some("b7  "), Some("a ")]);
    check(&routed, &[("shop:b7:a ", "x", r#"{"code":"b7  "}"#)]);
}

#[test]
fn a_route_that_does_not_fit_is_reported_once_a_relation() {
    let routes =
        vec![route(4, "messages", Operation::Insert, "org:{organization_id}", "x", &["id", "secret"])];
    let mut stream = messages(routes);
    let relation = Arc::new(Relation {
        id: 7,
        namespace: "public".into(),
        name: "messages".into(),
        replica_identity: crate::decode::ReplicaIdentity::Index,
        columns: Vec::new(),
    });
    assert_eq!(stream.router.new_misfits(&relation).len(), 1);
    assert_eq!(stream.router.new_misfits(&relation).len(), 0);
}

#[test]
fn agents_move_control_state() {
    let mut stream = Stream::new(Vec::new());
    stream.relation(
        "agents",
        b'd',
        &[("organization_id", UUID, true), ("user_id", UUID, true), ("active", BOOL, false)],
    );
    let agent = |active| ControlChange::Agent {
        organization: ORG_A.parse().unwrap(),
        user: USER.parse().unwrap(),
        active,
    };
    let row = |active| [Some(ORG_A), Some(USER), Some(active)];
    assert_eq!(stream.insert(&row("t")).control, [agent(Some(true))]);
    assert_eq!(stream.update(None, &row("f")).control, [agent(Some(false))]);
    assert_eq!(stream.delete(b'K', &[Some(ORG_A), Some(USER), None]).control, [agent(None)]);
    let moved = stream.update(Some((b'K', &[Some(ORG_A), Some(CONV), None])), &row("t"));
    let gone = ControlChange::Agent {
        organization: ORG_A.parse().unwrap(),
        user: CONV.parse().unwrap(),
        active: None,
    };
    assert_eq!(moved.control, [gone, agent(Some(true))]);
    assert_eq!(stream.truncate().control, [ControlChange::AllAgentsGone]);
    stream.relation(
        "agents",
        b'd',
        &[
            ("organization_id", UUID, true),
            ("user_id", UUID, true),
            ("display_name", TEXT, false),
            ("active", BOOL, false),
        ],
    );
    let named = ControlChange::AgentNamed {
        organization: ORG_A.parse().unwrap(),
        user: USER.parse().unwrap(),
        display_name: "Ada".into(),
    };
    let row = [Some(ORG_A), Some(USER), Some("Ada"), Some("t")];
    assert_eq!(stream.insert(&row).control, [agent(Some(true)), named]);
}

const GATE: &str = "status = claims.team";

fn gated_routes() -> Vec<Route> {
    use Operation::{Delete, Insert, Update};
    let table = "realtime_conversations";
    let gated = |route: Route| Route { gate: Some(GATE.to_owned()), ..route };
    let on_move = |route: Route| Route { on_move: true, ..route };
    vec![
        // An update that changes who sees the row comes after that, whatever the ids.
        gated(route(1, table, Update, "shop:{organization_id}", "updated", &["id", "status"])),
        gated(on_move(route(2, table, Insert, "shop:{organization_id}", "created", &["id"]))),
        gated(on_move(route(3, table, Delete, "shop:{organization_id}", "deleted", &["id"]))),
    ]
}

fn gated(routes: Vec<Route>) -> Stream {
    let mut stream = Stream::new(routes);
    stream.relation("realtime_conversations", b'f', MIRROR);
    stream
}

/// What a client of a team gets.
fn seen(routed: &Routed, team: &str) -> Vec<String> {
    let claim = |_: &[String]| campfire_gate::Claim::Text(team.to_owned());
    let sees = |event: &&Event| {
        let passes = |asked: &Asked| asked.gate.passes(&asked.row, &asked.gate.bind(claim));
        event.sight.as_ref().is_none_or(|sight| sight.is_for(passes))
    };
    routed.events.iter().filter(sees).map(|event| event.event.to_string()).collect()
}

#[test]
fn who_gains_or_loses_sight_of_a_row_is_told_that() {
    let row = |status| [Some(CONV), Some(ORG_A), Some(status), Some("t1")];
    let mut stream = gated(gated_routes());
    let routed = stream.update(Some((b'O', &row("a"))), &row("b"));
    assert_eq!((seen(&routed, "a"), seen(&routed, "b")), (vec!["deleted".into()], vec!["created".into()]));
    assert!(seen(&routed, "c").is_empty());
    let touched = [Some(CONV), Some(ORG_A), Some("a"), Some("t2")];
    let routed = stream.update(Some((b'O', &row("a"))), &touched);
    assert_eq!((seen(&routed, "a"), seen(&routed, "b").len()), (vec!["updated".into()], 0));
    let routed = stream.insert(&row("a"));
    assert_eq!((seen(&routed, "a"), seen(&routed, "b").len()), (vec!["created".into()], 0));
    let routed = stream.delete(b'O', &row("a"));
    assert_eq!((seen(&routed, "a"), seen(&routed, "b").len()), (vec!["deleted".into()], 0));
    // To another channel: the gate decides there by the new row, here by the old one.
    let moved = [Some(CONV), Some(ORG_B), Some("b"), Some("t1")];
    let routed = stream.update(Some((b'O', &row("a"))), &moved);
    let topics: Vec<String> = routed.events.iter().map(|event| event.topic.to_string()).collect();
    assert_eq!(topics, [format!("shop:{ORG_B}"), format!("shop:{ORG_A}")]);
    assert_eq!((seen(&routed, "a"), seen(&routed, "b")), (vec!["deleted".into()], vec!["created".into()]));
}

#[test]
fn whom_one_route_is_not_for_gets_the_event_of_the_next() {
    let mut routes = gated_routes();
    routes.push(route(
        4,
        "realtime_conversations",
        Operation::Update,
        "shop:{organization_id}",
        "for all",
        &["id"],
    ));
    routes.push(route(
        5,
        "realtime_conversations",
        Operation::Update,
        "shop:{organization_id}",
        "no more",
        &["id"],
    ));
    let row = [Some(CONV), Some(ORG_A), Some("a"), Some("t1")];
    let touched = [Some(CONV), Some(ORG_A), Some("a"), Some("t2")];
    let routed = gated(routes).update(Some((b'O', &row)), &touched);
    assert_eq!((seen(&routed, "a"), seen(&routed, "b")), (vec!["updated".into()], vec!["for all".into()]));
    assert_eq!(routed.collisions, 1);
}

#[test]
fn a_row_of_which_the_gate_knows_too_little_is_for_nobody() {
    let mut stream = Stream::new(gated_routes());
    stream.relation("realtime_conversations", b'i', MIRROR);
    let row = [Some(CONV), Some(ORG_A), Some("\0"), Some("t1")];
    let routed = stream.update(None, &row);
    assert_eq!((routed.events.len(), routed.unaddressed), (0, 1));
    let routed = stream.delete(b'K', &[Some(CONV), Some(ORG_A), None, None]);
    assert_eq!((routed.events.len(), routed.unaddressed), (0, 1));
    // The column is gone, or cannot be compared any more.
    let misfits = |columns: &[(&str, u32, bool)]| {
        let mut stream = Stream::new(gated_routes());
        stream.relation("realtime_conversations", b'f', columns);
        let values: Vec<Option<&str>> = columns.iter().map(|_| Some(CONV)).collect();
        let routed = stream.insert(&values);
        (routed.events.len(), stream.router.routes().0.len())
    };
    assert_eq!(misfits(&MIRROR[..2]), (0, 3));
    const TIMESTAMPTZ: u32 = 1184;
    assert_eq!(misfits(&[MIRROR[0], MIRROR[1], ("status", TIMESTAMPTZ, true)]), (0, 3));
}
