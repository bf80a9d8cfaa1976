use proptest::prelude::*;

use crate::{Bound, Claim, Gate, Row, Type};

const SUB: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const OTHER: &str = "0e37df36-f698-11e6-8dd4-cb9ced3df976";

fn column(name: &str) -> Option<Type> {
    Some(match name {
        "seller" | "buyer" => Type::Uuid,
        "state" | "Odd \"name\"" => Type::Text,
        "draft" => Type::Boolean,
        "total" | "shop" => Type::Number,
        "made_at" => Type::Other("dates and times are not compared in gates"),
        _ => return None,
    })
}

fn gate(text: &str) -> Gate {
    Gate::new(text, column).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The claims of a seller.
fn claims(gate: &Gate) -> Bound {
    gate.bind(|path| match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sub"] => Claim::Text(SUB.to_uppercase()),
        ["role"] => Claim::Text("seller".to_owned()),
        ["level"] => Claim::Number("3".to_owned()),
        ["Is admin"] => Claim::Boolean(false),
        ["app", "shops"] => Claim::List(vec![
            Claim::Number("7".to_owned()),
            Claim::Text("8".to_owned()),
            Claim::Text("x".to_owned()),
        ]),
        ["app", "none"] => Claim::List(Vec::new()),
        ["app"] => Claim::Other,
        ["odd"] => Claim::Text("a\0".to_owned()),
        _ => Claim::Null,
    })
}

fn row(gate: &Gate) -> Row {
    let values = gate.columns().map(|name| match name {
        "seller" => Some(SUB),
        "state" => Some("open"),
        "draft" => Some("f"),
        "total" => Some("12.50"),
        "shop" => Some("7"),
        "made_at" => Some("2026-11-28"),
        _ => None,
    });
    gate.read(values).expect("it has all columns")
}

#[test]
fn verdicts_are_those_of_sql() {
    for (text, expected) in [
        ("seller = claims.sub", Some(true)),
        ("SELLER <> Claims.sub", Some(false)),
        ("buyer = claims.sub", None),
        ("buyer = claims.sub or seller = claims.sub", Some(true)),
        ("buyer = claims.sub and seller <> claims.sub", Some(false)),
        ("not buyer = claims.sub", None),
        ("buyer is null", Some(true)),
        ("buyer is not null", Some(false)),
        ("made_at is not null and not draft", Some(true)),
        ("claims.role = 'seller'", Some(true)),
        ("claims.role in ('a', 'seller')", Some(true)),
        ("claims.role not in ('a', 'b')", Some(true)),
        ("claims.nobody not in ('a', 'b')", None),
        ("state in ('paid', claims.role, 'open')", Some(true)),
        ("state in ('paid', claims.nobody)", None),
        ("claims.level >= 3 and claims.level < 3.01", Some(true)),
        ("total > 12.5 or total < 12.5", Some(false)),
        ("total = '12.5'", Some(true)),
        ("total <= shop", Some(false)),
        ("shop = any (claims.app.shops)", Some(true)),
        ("8 = any (claims.app.shops)", Some(true)),
        ("9 = any (claims.app.shops)", None),
        ("buyer = any (claims.app.none)", Some(false)),
        ("buyer = any (claims.sub)", None),
        ("claims.\"Is admin\" or draft", Some(false)),
        ("claims.app is null or claims.nobody is not null", Some(false)),
        ("state = claims.odd", None),
        ("\"Odd \"\"name\"\"\" is null", Some(true)),
        ("claims.sub = 'x'", Some(false)),
        ("draft = claims.role", None),
    ] {
        let gate = gate(text);
        let (row, claims) = (row(&gate), claims(&gate));
        assert_eq!(gate.verdict(&row, &claims), expected, "{text}");
        assert_eq!(gate.passes(&row, &claims), expected == Some(true), "{text}");
    }
}

#[test]
fn what_is_no_gate_says_where_and_why() {
    for (text, expected) in [
        ("", "a column, a claim or a literal is missing, at character 1"),
        ("seller =", "a column, a claim or a literal is missing, at character 9"),
        ("seller = claims.sub)", "the gate should end, at character 20"),
        ("(seller = claims.sub", ") is missing, at character 21"),
        ("seller = claims", "claims is followed by a dot and a name, as in claims.sub, at character 16"),
        ("nobody = claims.sub", "there is no column \"nobody\", at character 1"),
        ("lower(state) = 'x'", "a gate has no functions, and no tables but the route's, at character 6"),
        ("o.state = 'x'", "a gate has no functions, and no tables but the route's, at character 2"),
        ("state = null", "NULL is only in IS [NOT] NULL, at character 9"),
        ("state is true", "after IS there is only [NOT] NULL, at character 10"),
        (
            "state < 'm'",
            "< is only between numbers or uuids: the order of texts depends on a collation, at character 1",
        ),
        ("draft < true", "< is only between numbers or uuids: booleans have no order here, at character 1"),
        ("seller = 'x'", "it is no literal of type uuid, at character 10"),
        ("state = 7", "it is no literal of type text, at character 9"),
        ("total = 1e3", "a number is digits, perhaps with a fraction, at character 9"),
        ("seller = total", "uuid is not comparable with number, at character 10"),
        (
            "made_at > '2026-01-01'",
            "column \"made_at\" can only be tested for null: dates and times are not compared in gates, at character 1",
        ),
        (
            "claims.a = claims.b",
            "two claims are not compared: neither says of what type they are, at character 1",
        ),
        ("1 = 1", "two literals are not compared, at character 1"),
        ("true", "a literal is compared with nothing, at character 1"),
        ("state", "it is no boolean, and is compared with nothing, at character 1"),
        ("claims.a in (1, 'b')", "the list has values of different types, at character 17"),
        ("claims.a = any (claims.b)", "= ANY is between a column or a literal and a claim, at character 1"),
        (
            "shop = any (state)",
            "ANY takes a claim that is a list, as in = any (claims.shops), at character 13",
        ),
        ("state = 'x", "a quote is not closed, at character 9"),
        ("größe = 1", "a name with 'ö' is written in double quotes, at character 3"),
        ("state = 'ö' ; drop", "';' has no meaning here, at character 13"),
    ] {
        let error = Gate::new(text, column).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
    let deep = format!("{}draft{}", "(".repeat(33), ")".repeat(33));
    assert!(Gate::new(&deep, column).is_err() && Gate::new(&"not ".repeat(33), column).is_err());
    assert!(Gate::new(&deep[2..deep.len() - 2], column).is_ok());
    assert!(Gate::new(&format!("draft{}", " ".repeat(4_092)), column).is_err());
}

#[test]
fn a_row_that_is_not_wholly_known_is_none() {
    let gate = gate("seller is null or draft");
    let read = |values: [Option<&'static str>; 2]| gate.read(values.into_iter());
    assert!(read([None, Some("t")]).is_some());
    assert!(read([Some(SUB), Some("maybe")]).is_none());
    assert!(gate.read([None].into_iter()).is_none(), "a value is missing");
    let typed = Gate::new("seller = claims.sub", column).expect("a gate");
    assert!(typed.read([Some("no uuid")].into_iter()).is_none());
}

#[test]
fn claims_are_bound_by_what_the_gate_asks() {
    let gate = gate("seller = claims.sub");
    let bind = |claim: Claim| gate.bind(|_| claim.clone());
    assert_eq!(bind(Claim::Text(SUB.to_owned())), bind(Claim::Text(SUB.to_uppercase())));
    assert_ne!(bind(Claim::Text(SUB.to_owned())), bind(Claim::Text(OTHER.to_owned())));
    for other in
        [Claim::Number("7".to_owned()), Claim::Other, Claim::Text("x".to_owned()), Claim::List(Vec::new())]
    {
        assert_eq!(bind(other), bind(Claim::Null));
    }
}

#[test]
fn claims_are_constants_of_the_sql() {
    let sql = |text: &str| {
        let gate = gate(text);
        let claims = claims(&gate);
        gate.to_sql("t", &claims)
    };
    assert_eq!(sql("seller = claims.sub"), format!("(t.\"seller\" = '{SUB}'::uuid)"));
    assert_eq!(sql("buyer = claims.nobody"), "(t.\"buyer\" = null::uuid)");
    let state = "(t.\"state\"::text collate \"C\")";
    assert_eq!(sql("state = 'it''s \\'"), format!("({state} = ( E'it''s \\\\'::text collate \"C\"))"));
    assert_eq!(
        sql("shop = any (claims.app.shops) and not draft"),
        "((t.\"shop\" = any (array['7'::bigint, '8'::bigint, null::numeric]::numeric[])) and (not (t.\"draft\" = true)))"
    );
    assert_eq!(sql("shop = any (claims.nobody)"), "(t.\"shop\" = any (null::numeric[]))");
    assert_eq!(sql("shop = any (claims.app.none)"), "(t.\"shop\" = any (array[]::bigint[]))");
    assert_eq!(sql("claims.app is null"), "(''::text is null)");
    assert_eq!(sql("\"Odd \"\"name\"\"\" is null"), "(t.\"Odd \"\"name\"\"\" is null)");
}

/// Gates of all that the language has, mostly well-formed.
fn texts() -> impl Strategy<Value = String> {
    let term = prop_oneof![
        Just("seller".to_owned()),
        Just("shop".to_owned()),
        Just("state".to_owned()),
        Just("draft".to_owned()),
        "claims\\.(sub|role|level|app\\.shops)",
        "'[a-z\\\\ ]{0,3}('')?'",
        "-?[0-9]{1,3}(\\.[0-9]{1,2})?",
    ];
    let operator = prop_oneof![Just("="), Just("<>"), Just("<="), Just(">")];
    let leaf = prop_oneof![
        (term.clone(), operator, term.clone())
            .prop_map(|(left, sign, right)| format!("{left} {sign} {right}")),
        (term.clone(), any::<bool>())
            .prop_map(|(term, not)| format!("{term} is {}null", if not { "not " } else { "" })),
        (term.clone(), prop::collection::vec(term, 1..3))
            .prop_map(|(left, list)| format!("{left} in ({})", list.join(", "))),
        Just("draft".to_owned()),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("{left} and {right}")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} or {right})")),
            inner.prop_map(|inner| format!("not ({inner})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "\\PC{0,80}|[a-z'\"().=<>, 0-9-]{0,80}") {
        let _ = Gate::new(&text, column);
    }

    #[test]
    fn negation_swaps_true_and_false(text in texts()) {
        if let (Ok(gate), Ok(negated)) = (Gate::new(&text, column), Gate::new(&format!("not ({text})"), column)) {
            let verdict = gate.verdict(&row(&gate), &claims(&gate));
            let opposite = negated.verdict(&row(&negated), &claims(&negated));
            prop_assert_eq!(verdict.map(|verdict| !verdict), opposite);
        }
    }

    #[test]
    fn the_order_of_parts_does_not_matter(left in texts(), right in texts()) {
        for word in ["and", "or"] {
            let gates = [format!("({left}) {word} ({right})"), format!("({right}) {word} ({left})")];
            if let [Ok(one), Ok(other)] = gates.map(|text| Gate::new(&text, column)) {
                prop_assert_eq!(one.verdict(&row(&one), &claims(&one)), other.verdict(&row(&other), &claims(&other)));
            }
        }
    }
}
