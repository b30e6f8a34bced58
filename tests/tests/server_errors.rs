//! Errors of servers: they name the server and keep its reason, and show no secret that it repeats.

#![cfg(not(shuttle))]

use std::error::Error as StdError;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::spawn;

use cacheio_core::Error;
use cacheio_sync::Cache;
use cacheio_tests::watchdog::guarded;

/// Starts a server of the Redis protocol that replies to each command by its words.
fn redis(reply: fn(&[String], u16) -> String) -> SocketAddr {
    serve(move |mut stream, port| {
        let mut input = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        while input.read_line(&mut line)? > 0 {
            let mut words = Vec::new();
            for _ in 0..line[1..].trim().parse().unwrap() {
                line.clear();
                input.read_line(&mut line)?;
                let mut word = vec![0; line[1..].trim().parse::<usize>().unwrap() + 2];
                input.read_exact(&mut word)?;
                words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
            }
            stream.write_all(reply(&words, port).as_bytes())?;
            line.clear();
        }
        Ok(())
    })
}

/// Starts a server that replies to each line with the same one.
fn lines(reply: &'static str) -> SocketAddr {
    serve(move |mut stream, _| {
        let input = BufReader::new(stream.try_clone()?);
        for line in input.lines() {
            line?;
            stream.write_all(reply.as_bytes())?;
        }
        Ok(())
    })
}

fn serve(
    client: impl Fn(TcpStream, u16) -> std::io::Result<()> + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let client = client.clone();
            spawn(move || client(stream, address.port()));
        }
    });
    address
}

/// Returns the errors of all operations on a cache, each with its causes.
fn errors(url: &str) -> Vec<String> {
    let cache = Cache::from_url(url).unwrap();
    let errors = [
        cache.get::<String>("the key").map(drop),
        cache.get_many::<String>(["the key", "b"]).map(drop),
        cache.set("the key", "the value"),
        cache.set_many([("the key", "the value"), ("b", "b")]),
        cache.add("the key", "the value").map(drop),
        cache.delete("the key").map(drop),
        cache.delete_many(["the key", "b"]).map(drop),
        cache.increment("the key", 1).map(drop),
        cache
            .touch("the key", std::time::Duration::from_secs(9))
            .map(drop),
        cache.ping(),
    ];
    errors
        .into_iter()
        .map(|result| chain(&result.unwrap_err()))
        .collect()
}

fn chain(error: &Error) -> String {
    let mut chain = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        chain.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    assert!(!chain.contains("s3cr3t"), "{chain}");
    assert!(chain.len() < 4_000, "{chain}");
    chain
}

/// Replies to a handshake as Redis 7 does.
fn handshake(words: &[String]) -> Option<String> {
    match words[0].as_str() {
        "HELLO" => Some("%1\r\n+proto\r\n:3\r\n".into()),
        "CLIENT" | "MULTI" => Some("+OK\r\n".into()),
        "EXEC" => Some("-EXECABORT Transaction discarded\r\n".into()),
        _ => None,
    }
}

#[test]
fn an_unreachable_server_is_named() {
    guarded(|| {
        for url in [
            "redis://user:s3cr3t@127.0.0.1:1",
            "redis-cluster://user:s3cr3t@127.0.0.1:1",
            "redis-sentinel://user:s3cr3t@127.0.0.1:1/main",
            "memcache://user:s3cr3t@127.0.0.1:1",
        ] {
            for error in errors(url) {
                assert!(error.contains("127.0.0.1:1"), "{url}: {error}");
            }
        }
    });
}

#[test]
fn a_refused_command_names_the_server_and_keeps_the_reason() {
    guarded(|| {
        let address = redis(|words, _| {
            let refuses = || "-CLUSTERDOWN Hash slot not served\r\n".into();
            handshake(words).unwrap_or_else(refuses)
        });
        for error in errors(&format!("redis://{address}")) {
            assert!(error.contains("Hash slot not served"), "{error}");
            assert!(error.contains(&address.to_string()), "{error}");
        }
    });
}

#[test]
fn a_cluster_that_is_down_says_why() {
    guarded(|| {
        let address = redis(|words, port| match words[0].as_str() {
            "CLUSTER" => format!("*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n"),
            "PING" => "+PONG\r\n".into(),
            _ => handshake(words).unwrap_or_else(|| "-CLUSTERDOWN The cluster is down\r\n".into()),
        });
        let url = format!("redis-cluster://{address}?timeout=3s");
        let cache = Cache::from_url(&url).unwrap();
        // The key of which slot is served is not known: of some, no node has the slot.
        let errors = (0..2_000).map(|key| format!("{{{key}}}"));
        let served = errors.filter(|key| crc16(key.trim_matches(['{', '}'])) % 16384 <= 9);
        let key = served.into_iter().next().unwrap();
        let error = chain(&cache.get::<String>(&key).unwrap_err());
        assert!(error.contains("The cluster is down"), "{error}");
    });
}

fn crc16(text: &str) -> u16 {
    text.bytes().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            }
        })
    })
}

#[test]
fn what_a_server_repeats_of_a_command_is_not_shown() {
    guarded(|| {
        let address = redis(|words, _| {
            let repeats = || {
                let arguments = words[1..].join("' '");
                let name = &words[0];
                format!(
                    "-ERR unknown command '{name}', with args beginning with: '{arguments}'\r\n"
                )
            };
            handshake(words).unwrap_or_else(repeats)
        });
        for error in errors(&format!("redis://{address}")) {
            assert!(error.contains(&address.to_string()), "{error}");
            assert!(!error.contains("the value"), "{error}");
        }
        // A server that repeats the password.
        let address = redis(|words, _| format!("-ERR unsupported {}\r\n", words.join(" ")));
        for error in errors(&format!("redis://user:s3cr3t@{address}")) {
            assert!(error.contains(&address.to_string()), "{error}");
        }
    });
}

#[test]
fn a_memcached_without_meta_commands_is_an_error_that_says_so() {
    guarded(|| {
        for reply in ["ERROR\r\n", "ERROR unknown command mg s3cr3t\r\n"] {
            let address = lines(reply);
            for error in errors(&format!("memcache://{address}")) {
                assert!(error.contains("memcached 1.6"), "{error}");
                assert!(error.contains(&address.to_string()), "{error}");
            }
        }
    });
}
