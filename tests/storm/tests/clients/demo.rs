//! `make demo`, with a smaller crowd.

use std::process::Command;

use crate::shop::Shop;

/// Connections of the crowd, of those who buy elsewhere, and of the demo itself.
const ROOM: usize = 20 + 8 + 1;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_prints_the_table_of_the_readme() {
    let shop = Shop::open(ROOM).await;
    let demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("PGDATABASE", &shop.name)
        .envs([("BUYERS", "300"), ("UNITS", "10"), ("CONNECTIONS", "20")])
        .output()
        .expect("the demo");
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(
        demo.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&demo.stderr)
    );
    assert_eq!(labels(&said), labels(README));
    assert!(said.contains("10 of 10"), "{said}");
}

const README: &str = include_str!("../../../../README.md");

/// Of the lines from "units sold" to "broken invariants", what comes before the figure.
fn labels(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("  units sold"));
    lines
        .take_while(|line| line.starts_with("  "))
        .map(|line| line.trim_start().split("  ").next().unwrap_or(line))
        .collect()
}
