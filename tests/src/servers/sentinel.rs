//! A Redis Sentinel.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{env, fs, process};

use super::process::{Port, connect, until};
use super::redis::{Redis, Reply, exchange};

/// A sentinel that watches a master with the name `main`.
#[derive(Debug)]
pub struct Sentinel {
    process: Child,
    port: Port,
    folder: PathBuf,
}

impl Sentinel {
    /// Starts a sentinel.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(master: &Redis) -> Self {
        let port = Port::free();
        let name = format!("cacheio-sentinel-{}-{}", process::id(), port.number());
        let folder = env::temp_dir().join(name);
        let config = folder.join("sentinel.conf");
        let content = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n",
            port.number(),
            master.port()
        );
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&config, content));
        assert!(written.is_ok(), "no configuration: {written:?}");
        let process = Command::new("redis-server")
            .arg(&config)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            panic!("redis-server must be installed: apt-get install redis-server");
        };
        let sentinel = Self {
            process,
            port,
            folder,
        };
        until("the sentinel listens", || {
            connect(sentinel.address()).is_ok()
        });
        sentinel
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Runs a command of `SENTINEL`, given as words.
    fn run(&self, command: &str) -> Reply {
        let command: Vec<&[u8]> = ["SENTINEL"]
            .into_iter()
            .chain(command.split(' '))
            .map(str::as_bytes)
            .collect();
        match connect(self.address()).and_then(|connection| exchange(connection, &[&command])) {
            Ok(reply) => reply,
            Err(error) => Reply::Error(error.to_string()),
        }
    }

    /// Waits until it knows a replica of the master.
    ///
    /// # Panics
    ///
    /// When it finds none.
    pub fn until_it_knows_a_replica(&self) {
        until(
            "the sentinel knows a replica",
            || matches!(self.run("REPLICAS main"), Reply::Array(known) if !known.is_empty()),
        );
    }

    /// Makes the replica the master, and waits until it is.
    ///
    /// # Panics
    ///
    /// When it does not become the master.
    pub fn fail_over(&self, to: &Redis) {
        until("the sentinel begins a failover", || {
            self.run("FAILOVER main") == Reply::Text("OK".into())
        });
        self.until_master(to);
    }

    /// Waits until this server is the master.
    ///
    /// # Panics
    ///
    /// When it does not become the master.
    pub fn until_master(&self, server: &Redis) {
        let port = Reply::Text(server.port().to_string());
        until("the replica is the master", || {
            let master = self.run("GET-MASTER-ADDR-BY-NAME main");
            let is_known = matches!(master, Reply::Array(parts) if parts.get(1) == Some(&port));
            is_known
                && server
                    .run("INFO replication")
                    .text()
                    .contains("role:master")
        });
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
