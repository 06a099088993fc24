//! Compares what the SQL files repeat with the code: the limits, the statuses of
//! orders, and the functions and relations that `grant_app` and `grant_operator` name.

use flashsale_core::limits::{
    MAX_EXPIRED, MAX_NODES, MAX_NUMBER, MAX_SPAN_SECONDS, MAX_TEXT_BYTES,
};
use flashsale_core::order::Status;
use std::collections::BTreeSet;
use std::path::Path;

/// Functions that neither set of privileges contains.
const NOT_GRANTED: [&str; 24] = [
    "check_item()",
    "definitions()",
    "forget_node()",
    "grant_app(regrole)",
    "grant_operator(regrole)",
    "guard_items()",
    "guard_orders()",
    "health_of_commits()",
    "health_of_dumps()",
    "health_of_ids()",
    "health_of_installation()",
    "health_of_library()",
    "health_of_service()",
    "health_of_sessions(timestamptz)",
    "health_of_version()",
    "health_of_work()",
    "health_of_workers()",
    "id_sequences()",
    "new_ref_code()",
    "next_id(regclass)",
    "payment_adds_up(text, text, boolean, boolean, text, text, bigint)",
    "raise_version()",
    "set_node(integer, integer)",
    "units_add_up(text, bigint, bigint)",
];

/// A text in which each run of white space, and of backslashes that continue a Rust string, is one
/// blank.
fn on_one_line(text: &str) -> String {
    let words = text.split(|letter: char| letter.is_whitespace() || letter == '\\');
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn schema() -> String {
    let files = [
        "tables",
        "buyer_functions",
        "operator_functions",
        "views",
        "health",
    ];
    let read = |name| std::fs::read_to_string(root().join(format!("sql/{name}.sql"))).unwrap();
    on_one_line(&files.map(read).concat())
}

/// The numbers that follow each `marker`.
fn numbers_after(text: &str, marker: &str) -> BTreeSet<i64> {
    let number = |rest: &str| {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit());
        rest[..digits.unwrap_or(rest.len())].parse().ok()
    };
    text.split(marker).skip(1).filter_map(number).collect()
}

#[test]
fn the_schema_repeats_the_limits() {
    let schema = schema();
    let bytes = MAX_TEXT_BYTES as i64;
    let checked = numbers_after(&schema, "BETWEEN 1 AND ");
    assert_eq!(checked, [bytes, MAX_SPAN_SECONDS, MAX_NUMBER].into());
    let described = numbers_after(&schema, " 1 to ");
    assert_eq!(described, [bytes].into());
    assert_eq!(
        numbers_after(&schema, "(1 to "),
        [i64::from(MAX_EXPIRED)].into()
    );
    let nodes = [i64::from(MAX_NODES)].into();
    assert_eq!(numbers_after(&schema, "nodes <= "), nodes);
    assert_eq!(numbers_after(&schema, "or above "), nodes);
    let digits = schema.split(|letter: char| !letter.is_ascii_digit());
    let large = digits
        .filter_map(|number| number.parse().ok())
        .filter(|&one: &i64| one > 1_000_000);
    assert_eq!(large.collect::<BTreeSet<_>>(), [MAX_NUMBER].into());
}

#[test]
fn the_audit_knows_all_statuses() {
    let list = |statuses: &mut dyn Iterator<Item = Status>| {
        let names = statuses.map(|status| format!("'{}'", status.name()));
        format!("({})", names.collect::<Vec<_>>().join(", "))
    };
    let all = list(&mut Status::ALL.into_iter());
    let closed = list(
        &mut Status::ALL
            .into_iter()
            .filter(|status| status.dead().is_some()),
    );
    assert!(schema().contains(&format!("status NOT IN {all}")));
    assert!(schema().contains(&format!("(closed_at IS NOT NULL) <> (status IN {closed})")));
}

/// The signatures of the functions that the schema creates, without their schema.
fn created_functions(schema: &str) -> BTreeSet<String> {
    let created = schema.split("CREATE FUNCTION flashsale.").skip(1);
    created
        .map(|rest| {
            let (name, rest) = rest.split_once('(').unwrap();
            let (arguments, _) = rest.split_once(')').unwrap();
            let arguments = arguments.split(',').map(str::trim);
            let types = arguments
                .filter(|argument| !argument.is_empty() && !argument.starts_with("OUT "))
                .map(|argument| argument.split(' ').nth(1).unwrap());
            format!("{name}({})", types.collect::<Vec<_>>().join(", "))
        })
        .collect()
}

/// What follows each `flashsale.` in a text, to where the name or the signature ends.
fn named(text: &str) -> BTreeSet<String> {
    let named = text.split("flashsale.").skip(1).map(|rest| {
        let name = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let name = name.unwrap_or(rest.len());
        let end = match rest[name..].starts_with('(') {
            true => rest.find(')').unwrap() + 1,
            false => name,
        };
        rest[..end].to_owned()
    });
    named.collect()
}

#[test]
fn privileges_name_all_functions_and_relations() {
    let grants = std::fs::read_to_string(root().join("src/store/grants.rs")).unwrap();
    let constants = grants.split("const ").skip(1);
    let constants = constants
        .map(|rest| rest.split_once(';').unwrap().0)
        .collect::<String>();
    let (functions, relations) = named(&on_one_line(&constants))
        .into_iter()
        .partition::<BTreeSet<_>, _>(|name| name.ends_with(')'));

    let schema = schema();
    let not_granted = NOT_GRANTED.map(str::to_owned).into();
    let created = created_functions(&schema);
    assert_eq!(
        functions,
        created.difference(&not_granted).cloned().collect()
    );
    assert!(not_granted.is_subset(&created));

    let created = ["CREATE TABLE flashsale.", "CREATE VIEW flashsale."];
    let created = created
        .into_iter()
        .flat_map(|create| schema.split(create).skip(1));
    let created = created.map(|rest| rest.split(' ').next().unwrap().to_owned());
    assert_eq!(relations, created.collect());
}
