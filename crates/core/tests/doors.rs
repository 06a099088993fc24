//! Checks the architecture in the sources: a file imports only from its own layer or from layers
//! below, no files import each other in a cycle, unsafe code stands only in `src/pg`, SQL only in
//! `src/store`, JSON only in `src/api`, and one file decides every purchase.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The layers from top to bottom, by the first part of the paths of their files.
const LAYERS: [&[&str]; 8] = [
    &["lib", "tests"],
    &["api/"],
    &["doors"],
    &["group/", "reconciler", "launcher", "database", "guard"],
    &["sale/"],
    &["store/"],
    &[
        "gate", "attempt", "backoff", "stats", "settings", "error", "workers",
    ],
    &["pg/"],
];

/// Files outside `api` that contain JSON: one converts it to a jsonb of PostgreSQL, one reads a jsonb,
/// and one tests functions as SQL calls them. Look-ups in `store` return the jsonb that PostgreSQL
/// built, as text.
const JSON: [&str; 3] = ["pg/jsonb", "pg/jsonb/list", "tests"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of each file of the extension without comments, keyed by its path without `.rs`.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let code = |text: String| -> String {
        let lines = text.lines().map(|line| line.split("//").next().unwrap());
        lines.collect::<Vec<_>>().join("\n")
    };
    let named = sources(&root).into_iter().map(|path| {
        let name = path.strip_prefix(&root).unwrap().with_extension("");
        let text = std::fs::read_to_string(&path).unwrap();
        (name.to_str().unwrap().to_owned(), code(text))
    });
    named.collect()
}

fn layer(file: &str) -> usize {
    let is_in = |layer: &&[&str]| {
        layer
            .iter()
            .any(|&start| file == start || (start.ends_with('/') && file.starts_with(start)))
    };
    let layer = LAYERS.iter().position(is_in);
    layer.unwrap_or_else(|| panic!("{file} is in no layer"))
}

/// The paths after each `prefix`, with braces expanded: `crate::{a, b::c}` is `a` and `b::c`.
fn paths(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in starts(code, prefix) {
        let Some(inner) = rest.strip_prefix('{') else {
            found.extend(spread(rest));
            continue;
        };
        let mut depth = 1;
        let end = inner.find(|letter| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            depth == 0
        });
        found.extend(inner[..end.unwrap()].split(',').flat_map(spread));
    }
    found
}

/// What follows each `prefix` that begins a path.
fn starts<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let continues = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
    let found = code.match_indices(prefix);
    found
        .filter(move |(at, _)| !code[..*at].ends_with(continues))
        .map(|(at, _)| &code[at + prefix.len()..])
}

/// Expands a path: `a::b::C` stays as it is, `a::{self, b}` becomes `a` and `a::b`.
fn spread(path: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
    let path = path.trim();
    let head = &path[..path.find(|letter| !is_part(letter)).unwrap_or(path.len())];
    match path[head.len()..].strip_prefix('{') {
        Some(inner) if head.ends_with("::") => {
            let inner = inner.split('}').next().unwrap();
            inner
                .split(',')
                .map(|part| format!("{head}{}", part.trim()))
                .collect()
        }
        _ => vec![head.to_owned()],
    }
}

/// The file of the extension that a path leads to; if several match, the deepest.
fn file_of(path: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    (1..=parts.len()).rev().find_map(|len| {
        let name = parts[..len].join("/");
        [name.clone(), format!("{name}/mod")]
            .into_iter()
            .find(|name| files.contains_key(name))
    })
}

/// The module that a file is.
fn module(file: &str) -> &str {
    match file.strip_suffix("/mod") {
        Some(module) => module,
        None if file == "lib" => "",
        None => file,
    }
}

/// The code of a file outside its inline modules, whose `super` is the file itself.
fn top_level(code: &str) -> String {
    let mut inside = false;
    let lines = code.lines().filter(|line| {
        inside |= line.contains("mod ") && line.ends_with('{') && !line.starts_with(' ');
        let is_top_level = !inside;
        inside &= *line != "}";
        is_top_level
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths that a file names, from the root of the crate: those that begin with `crate`, with
/// `super`, or with a module that is declared in the file.
fn named(file: &str, code: &str) -> Vec<String> {
    let mut found = paths(code, "crate::");
    let code = &top_level(code);
    let parent = |module: &str| {
        module
            .rsplit_once('/')
            .map_or("", |(parent, _)| parent)
            .to_owned()
    };
    let mut above = parent(module(file));
    let mut supers = "super::".to_owned();
    while code.contains(&supers) {
        let within = paths(code, &supers).into_iter();
        let within = within.filter(|path| !path.starts_with("super::"));
        found.extend(within.map(|path| format!("{above}::{path}").replace('/', "::")));
        above = parent(&above);
        supers.push_str("super::");
    }
    let declared = starts(code, "mod ").filter_map(|rest| rest.split_once(';'));
    for (child, _) in declared {
        let within = paths(code, &format!("{child}::")).into_iter();
        let child = format!("{}/{child}", module(file)).replace('/', "::");
        found.extend(within.map(|path| format!("{child}::{path}")));
    }
    let rooted = found
        .iter()
        .map(|path| path.trim_start_matches("::").to_owned());
    rooted.collect()
}

fn imports() -> BTreeSet<(String, String)> {
    let files = files();
    let mut found = BTreeSet::new();
    for (file, code) in &files {
        let named = named(file, code);
        for target in named.iter().filter_map(|path| file_of(path, &files)) {
            if *file != target {
                found.insert((file.clone(), target));
            }
        }
    }
    found
}

#[test]
fn imports_are_seen_however_they_are_written() {
    let code = "mod child;\nuse crate::{a, b::c};\nuse super::d::{self, E};\n\
                fn f() { super::g(); super::super::h::i(); child::j() }\n\
                mod tests {\n    use super::*;\n    use super::unseen::X;\n}\nuse self::k;\n";
    let mut found = named("room/inner/mod", code);
    found.sort();
    let expected = [
        "a",
        "b::c",
        "h::i",
        "room::d::E",
        "room::d::self",
        "room::g",
        "room::inner::child::j",
    ];
    assert_eq!(found, expected);
}

#[test]
fn no_import_runs_up() {
    let upward: BTreeSet<_> = imports()
        .into_iter()
        .filter(|(file, target)| layer(target) < layer(file))
        .collect();
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    let mut left = imports();
    // A file that imports none of the remaining files is in no cycle.
    loop {
        let importers: BTreeSet<String> = left.iter().map(|(file, _)| file.clone()).collect();
        let before = left.len();
        left.retain(|(_, target)| importers.contains(target));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn unsafe_code_stands_in_pg_alone() {
    let is_unsafe = |code: &str| {
        code.replace("#[unsafe(no_mangle)]", "")
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .any(|word| word == "unsafe")
    };
    for (file, code) in files() {
        assert!(
            file.starts_with("pg/") || !is_unsafe(&code),
            "unsafe in {file}"
        );
    }
}

#[test]
fn sql_stands_in_store_alone() {
    const STATEMENTS: [&str; 5] = [
        "\"SELECT ",
        "\"INSERT INTO ",
        "\"UPDATE ",
        "\"DELETE FROM ",
        "\"GRANT ",
    ];
    for (file, code) in files() {
        let tests = |line: &str| line.starts_with("#[cfg(") && line.contains("test");
        let code: Vec<&str> = code.lines().take_while(|line| !tests(line)).collect();
        let code = code.join("\n");
        let holds = STATEMENTS.iter().find(|&&start| code.contains(start));
        assert!(
            file.starts_with("store/") || file == "tests" || holds.is_none(),
            "SQL in {file}"
        );
    }
}

/// Whoever sets the clock of the machine neither prolongs a wait nor cuts it short.
#[test]
fn waits_are_not_measured_by_the_wall_clock() {
    let waits = |file: &str| {
        ["group/", "pg/", "gate", "attempt", "backoff"]
            .iter()
            .any(|start| file.starts_with(start))
    };
    for (file, code) in files() {
        assert!(
            !waits(&file) || !code.contains("clock::now"),
            "the wall clock in {file}"
        );
    }
}

#[test]
fn json_is_made_in_api_alone() {
    for (file, code) in files() {
        let allowed = file.starts_with("api/") || JSON.contains(&file.as_str());
        let found = ["serde_json", "JsonB", "Jsonb"]
            .into_iter()
            .find(|&name| code.contains(name));
        assert!(allowed || found.is_none(), "JSON in {file}: {found:?}");
    }
}

/// What decides a purchase and stores it, and the one file that may call it. The single decrement of
/// `atomic` is how that strategy obtains the row.
#[test]
fn one_file_decides_and_stores_every_purchase() {
    let only = [
        ("fit::fit(", "sale/serve"),
        ("orders::insert(", "sale/serve"),
        ("items::take_versioned(", "sale/serve"),
        ("items::take_on_sale(", "sale/atomic"),
    ];
    let files = files();
    for (call, place) in only {
        let callers = files.iter().filter(|(_, code)| code.contains(call));
        let callers = callers.map(|(file, _)| file.as_str());
        let callers: Vec<&str> = callers.filter(|file| *file != "tests").collect();
        assert_eq!(callers, [place], "{call}");
    }
}

#[test]
fn core_does_not_depend_on_postgresql() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("pgrx"), "pgrx in Cargo.toml");
    for path in sources(&root.join("src")) {
        assert!(
            !std::fs::read_to_string(&path).unwrap().contains("pgrx::"),
            "{path:?}"
        );
    }
}
