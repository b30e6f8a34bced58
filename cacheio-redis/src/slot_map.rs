//! Which node of a cluster serves which slots.

use std::collections::HashMap;
use std::time::Instant;

use redis::{Value, cmd};

use crate::failure::Failure;
use crate::reply::{integer, value, values};
use crate::request::Request;
use crate::server::Server;

/// The nodes of a cluster by their addresses (`host:port`), and the slots that they serve.
#[derive(Clone, Default)]
pub(crate) struct SlotMap {
    pub(crate) nodes: HashMap<String, Server>,
    /// Nodes without slots (yet) to which other nodes have redirected requests.
    pub(crate) unassigned: HashMap<String, Server>,
    /// The last slot of each range, in order, and the address of its node.
    pub(crate) ranges: Vec<(u16, String)>,
    pub(crate) loaded_at: Option<Instant>,
}

impl SlotMap {
    pub(crate) fn server(&self, slot: u16) -> Option<&Server> {
        let at = self.ranges.partition_point(|(last, _)| *last < slot);
        let (_, node) = self.ranges.get(at)?;
        self.nodes.get(node)
    }

    /// Returns the server at an address, with or without slots.
    pub(crate) fn at(&self, address: &str) -> Option<&Server> {
        let with_slots = self.nodes.get(address);
        with_slots.or_else(|| self.unassigned.get(address))
    }
}

/// A range of slots in the reply to [`cluster_slots`].
#[derive(Debug, PartialEq)]
pub(crate) struct SlotRange {
    pub(crate) last: u16,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl SlotRange {
    /// Parses the reply of a node. A node that does not know its own address is at `host`.
    pub(crate) fn parse_all(reply: Value, host: &str) -> Result<Vec<Self>, Failure> {
        let ranges = values(reply)?.into_iter();
        ranges.map(|range| Self::parse(range, host)).collect()
    }

    /// Parses `[first slot, last slot, [host of the master, port, …], replica, …]`.
    fn parse(range: Value, host: &str) -> Result<Self, Failure> {
        let mut range = values(range)?.into_iter().skip(1);
        let mut next = || range.next().unwrap_or(Value::Nil);
        let last = integer(next())?;
        let mut master = values(next())?.into_iter();
        let mut next = || master.next().unwrap_or(Value::Nil);
        let named = String::from_utf8(value(next())?.unwrap_or_default());
        let port = integer(next())?;
        Ok(Self {
            last: u16::try_from(last).map_err(|_| Failure::unexpected_reply())?,
            host: known_host(&named.unwrap_or_default(), host),
            port: u16::try_from(port).map_err(|_| Failure::unexpected_reply())?,
        })
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Returns the host that a node names. A node that does not know, or does not tell, the host of
/// another means its own.
pub(crate) fn known_host(named: &str, own: &str) -> String {
    match named {
        "" | "?" => own.to_owned(),
        known => known.to_owned(),
    }
}

/// Returns the request for the slots of all nodes.
pub(crate) fn cluster_slots() -> Request {
    let mut command = cmd("CLUSTER");
    command.arg("SLOTS");
    Request::one(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        let host = Value::BulkString(host.as_bytes().to_vec());
        let master = Value::Array(vec![host, Value::Int(port)]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    #[test]
    fn slot_ranges_are_parsed_with_the_masters_address() {
        let reply = Value::Array(vec![range(0, 5, "a", 1), range(6, 16_383, "?", 2)]);
        let ranges = SlotRange::parse_all(reply, "local").unwrap();
        let addresses: Vec<_> = ranges.iter().map(SlotRange::address).collect();
        assert_eq!(addresses, ["a:1", "local:2"]);
        assert_eq!(ranges[1].last, 16_383);
    }

    #[test]
    fn a_malformed_slot_range_is_an_error() {
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![Value::Array(Vec::new())]),
            Value::Array(vec![range(0, 5, "a", 70_000)]),
        ] {
            assert!(SlotRange::parse_all(reply, "local").is_err());
        }
    }
}
