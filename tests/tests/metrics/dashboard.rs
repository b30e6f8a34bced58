//! The Grafana dashboard shows each metric of the library, and no other.

use std::collections::BTreeSet;

use cacheio_core::SystemClock;
use cacheio_sync::{Cache, L1, Memory};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores;
use metrics::with_local_recorder;
use serde_json::Value;

use super::Recorded;

const DASHBOARD: &str = include_str!("../../../examples/grafana/dashboard.json");

/// Returns the names of all metrics. A cache with L1 has all of them.
fn described() -> BTreeSet<String> {
    let recorded = Recorded::default();
    with_local_recorder(&recorded, || {
        let store = stores::bytes(&TestEnv::new(Time::system()));
        let l1 = L1::new(Memory::builder().clock(SystemClock).build());
        Cache::builder().store(store).l1(l1).build().unwrap()
    });
    let table = recorded.0.lock().unwrap();
    table.described.keys().cloned().collect()
}

fn expressions(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect()
}

/// Returns the metrics in an expression of Prometheus, without the suffixes of a histogram's series.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("cacheio_"))
        .map(|name| {
            let suffixes = ["_sum", "_count", "_bucket"];
            let stripped = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            stripped.unwrap_or(name)
        })
}

#[test]
fn the_dashboard_shows_each_metric() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let expressions = expressions(&dashboard);
    let shown = expressions
        .iter()
        .flat_map(|expression| metrics_in(expression));
    assert_eq!(
        shown.map(str::to_owned).collect::<BTreeSet<_>>(),
        described()
    );
    for expression in expressions {
        let series = metrics_in(expression).count();
        let chosen = expression.matches("cache=~\"$cache\"").count();
        assert_eq!(series, chosen, "{expression}");
    }
}
