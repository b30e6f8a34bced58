//! The page: what it consists of, its switches, and what it measures.

mod requests;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::{Method, StatusCode};
use cacheio_example_axum_sqlite::demo::{self, Demo};
use cacheio_example_axum_sqlite::routes;
use requests::{get, send, text};
use serde_json::{Value, json};

fn page_of(demo: Demo) -> Router {
    Router::new()
        .merge(routes())
        .merge(demo::routes())
        .with_state(demo)
}

fn in_memory() -> Result<Router> {
    Ok(page_of(Demo::start_in_memory()?))
}

/// Sets a switch, and returns all of them.
async fn set(page: &Router, path: &str, value: Value) -> Result<Value> {
    let (status, switches) = send(page, Method::PUT, path, Some(value)).await?;
    ensure!(status == StatusCode::OK, "{path}: {status} {switches}");
    assert_eq!(get(page, "/demo").await?["switches"], switches);
    Ok(switches)
}

async fn status(page: &Router, path: &str) -> Result<StatusCode> {
    Ok(send(page, Method::GET, path, None).await?.0)
}

const FILES: [(&str, &str); 3] = [
    ("/", "text/html"),
    ("/page.css", "text/css"),
    ("/page.js", "text/javascript"),
];

#[tokio::test]
async fn the_page_has_no_external_references() -> Result<()> {
    let page = in_memory()?;
    for (path, kind) in FILES {
        let (status, sent_as, text) = text(&page, Method::GET, path, None).await?;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(sent_as.starts_with(kind), "{path}: {sent_as}");
        // The name of SVG in the DOM, which is not loaded.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for external in ["://", "src=\"//", "href=\"//", "url(", "@import", "import("] {
            assert!(!text.contains(external), "{path} has {external}");
        }
        for attribute in ["href=\"", "src=\""] {
            for link in text.split(attribute).skip(1) {
                let link = link.split('"').next().context("no end")?;
                let is_own = FILES
                    .iter()
                    .any(|(path, _)| path.trim_start_matches('/') == link);
                assert!(is_own || link == "data:,", "{path} links to {link}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_switch_is_on_the_page() -> Result<()> {
    let page = in_memory()?;
    let (_, _, html) = text(&page, Method::GET, "/", None).await?;
    let switches = &get(&page, "/demo").await?["switches"];
    for policy in switches["policies"]
        .as_object()
        .context("no policies")?
        .keys()
    {
        assert!(html.contains(&format!("name=\"{policy}\"")), "{policy}");
    }
    for health in ["normal", "slow", "down", "hangs"] {
        assert!(html.contains(&format!("value=\"{health}\"")), "{health}");
        assert_eq!(
            set(&page, "/demo/database", json!(health)).await?["database"],
            health
        );
    }
    let (status, _) = send(&page, Method::PUT, "/demo/database", Some(json!("on fire"))).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}

#[tokio::test]
async fn all_combinations_of_policies_can_be_set() -> Result<()> {
    let page = in_memory()?;
    let all = get(&page, "/demo").await?["switches"]["policies"].clone();
    let names: Vec<_> = all.as_object().context("no policies")?.keys().collect();
    for combination in 0..1 << names.len() {
        let is_on = |policy: usize| json!(combination >> policy & 1 == 1);
        let policies = names
            .iter()
            .enumerate()
            .map(|(at, name)| ((*name).clone(), is_on(at)));
        let policies = Value::Object(policies.collect());
        let switches = set(&page, "/demo/policies", policies.clone()).await?;
        assert_eq!(switches["policies"], policies);
        assert_eq!(status(&page, "/products/1").await?, StatusCode::OK);
    }
    let mut unknown = all.clone();
    unknown["luck"] = json!(true);
    let (status, _) = send(&page, Method::PUT, "/demo/policies", Some(unknown)).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_down_is_survived() -> Result<()> {
    let page = in_memory()?;
    get(&page, "/products/1").await?;
    set(&page, "/demo/database", json!("down")).await?;
    assert_eq!(status(&page, "/products/1").await?, StatusCode::OK);
    assert_eq!(
        status(&page, "/products/2").await?,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    set(&page, "/demo/database", json!("normal")).await?;
    assert_eq!(status(&page, "/products/2").await?, StatusCode::OK);
    Ok(())
}

/// No request waits for longer than `hard_timeout`; queries that hang end when the switch is set again.
#[tokio::test]
async fn a_database_that_hangs_is_not_waited_for() -> Result<()> {
    let page = in_memory()?;
    set(&page, "/demo/database", json!("hangs")).await?;
    assert_eq!(
        status(&page, "/products/1").await?,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    set(&page, "/demo/database", json!("normal")).await?;
    while status(&page, "/products/1").await? != StatusCode::OK {}
    Ok(())
}

#[tokio::test]
async fn requests_at_once_are_one_query_with_the_cache() -> Result<()> {
    let page = in_memory()?;
    let (status, burst) = send(&page, Method::POST, "/demo/burst", None).await?;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(burst["callers"], 200);
    assert_eq!(
        (&burst["with"]["queries"], &burst["with"]["failed"]),
        (&json!(1), &json!(0))
    );
    // On a busy machine some of them wait for a connection for too long.
    let count = |name| burst["without"][name].as_u64().unwrap_or_default();
    assert!(count("queries") + count("failed") >= 200, "{burst}");
    Ok(())
}

#[tokio::test]
async fn an_invalidated_product_is_loaded_again() -> Result<()> {
    let page = in_memory()?;
    get(&page, "/products/1").await?;
    get(&page, "/products/1").await?;
    assert_eq!(get(&page, "/stats").await?["loads"], 1);
    let (status, _) = send(&page, Method::POST, "/demo/invalidate", None).await?;
    assert_eq!(status, StatusCode::OK);
    get(&page, "/products/1").await?;
    assert_eq!(get(&page, "/stats").await?["loads"], 2);
    Ok(())
}

#[tokio::test]
async fn without_redis_there_is_nothing_to_kill() -> Result<()> {
    let page = in_memory()?;
    assert_eq!(
        set(&page, "/demo/redis", json!(false)).await?["redis"],
        "none"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_can_be_killed_and_started_again() -> Result<()> {
    let page = page_of(Demo::start_with_redis()?);
    let switches = &get(&page, "/demo").await?["switches"];
    assert_eq!(switches["redis"], "up", "install redis-server");
    get(&page, "/products/1").await?;
    assert_eq!(
        set(&page, "/demo/redis", json!(false)).await?["redis"],
        "down"
    );
    for id in [1, 2] {
        assert_eq!(
            status(&page, &format!("/products/{id}")).await?,
            StatusCode::OK
        );
    }
    assert_eq!(set(&page, "/demo/redis", json!(true)).await?["redis"], "up");
    // Until Redis is reached again, the call is an error.
    while send(&page, Method::POST, "/demo/invalidate", None).await?.1["invalidated"] != true {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&page, "/products/1").await?, StatusCode::OK);
    Ok(())
}

/// Requests are sent while a page asks for what they measure.
#[tokio::test(flavor = "multi_thread")]
async fn both_lanes_are_measured() -> Result<()> {
    let demo = Demo::start_in_memory()?;
    tokio::spawn(demo::send_requests(demo.clone()));
    let page = page_of(demo);
    let sample = loop {
        let state = get(&page, "/demo?since=1").await?;
        if let Some(sample) = state["samples"]
            .as_array()
            .and_then(|samples| samples.first())
        {
            break sample.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        (&sample["number"], &sample["database"]),
        (&json!(1), &json!("normal"))
    );
    let number = |lane: &str, name: &str| sample[lane][name].as_f64().unwrap_or_default();
    assert!(
        number("with", "answered") > 0.0 && number("without", "queries") > 0.0,
        "{sample}"
    );
    assert!(
        number("with", "queries") < number("without", "queries"),
        "{sample}"
    );
    assert!(
        number("with", "without_query") > number("without", "without_query"),
        "{sample}"
    );
    assert!(number("with", "p99") >= number("with", "p50"), "{sample}");
    Ok(())
}
