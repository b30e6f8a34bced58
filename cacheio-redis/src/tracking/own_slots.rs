//! The slots that a node of a cluster serves, as the node itself says.

use redis::{Cmd, FromRedisValue, RedisResult, Value, cmd, from_redis_value};

use crate::slots::slot;

/// The slots of a node, and the epoch in which it took them over. A node that has lost a slot since, or has it
/// again, has others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OwnSlots {
    /// The first and the last slot of each range.
    ranges: Vec<(u16, u16)>,
    epoch: String,
}

impl OwnSlots {
    /// Returns the commands whose replies [`parse`](Self::parse) takes.
    pub(super) fn commands() -> impl Iterator<Item = Cmd> {
        let cluster = |subcommand| {
            let mut command = cmd("CLUSTER");
            command.arg(subcommand);
            command
        };
        ["MYID", "INFO", "SLOTS"].into_iter().map(cluster)
    }

    /// Parses the replies of a node. One that does not serve any slots has none: a replica, or a node that knows
    /// too few of the others.
    pub(super) fn parse(replies: Vec<Value>) -> RedisResult<Self> {
        let mut replies = replies.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil).extract_error();
        let own_id: String = from_redis_value(next()?)?;
        let info: String = from_redis_value(next()?)?;
        let ranges: Vec<Vec<Value>> = from_redis_value(next()?)?;
        let field = |name| info.lines().find_map(|line| line.strip_prefix(name));
        if field("cluster_state:") != Some("ok") {
            return Ok(Self::default());
        }
        let mut own = Self {
            ranges: Vec::new(),
            epoch: field("cluster_my_epoch:").unwrap_or_default().to_owned(),
        };
        for range in ranges {
            // The master follows the first and the last slot: its host, its port, and its ID.
            let [first, last, Value::Array(master), ..] = &range[..] else {
                continue;
            };
            let id = master
                .get(2)
                .and_then(|id| String::from_redis_value_ref(id).ok());
            if id.as_ref() == Some(&own_id) {
                let number = u16::from_redis_value_ref;
                own.ranges.push((number(first)?, number(last)?));
            }
        }
        Ok(own)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns whether the slot of a key is among them.
    pub(super) fn contains(&self, key: &str) -> bool {
        let slot = slot(key.as_bytes());
        let mut ranges = self.ranges.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&slot))
    }

    /// Returns one of them, by a random number.
    pub(super) fn pick(&self, random: u64) -> Option<u16> {
        let count = self.ranges.len() as u64;
        let range = random.checked_rem(count)? as usize;
        let (first, last) = self.ranges.get(range)?;
        let offset = (random / count) % (u64::from(last - first) + 1);
        Some(first + offset as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "cluster_state:ok\r\ncluster_current_epoch:7\r\ncluster_my_epoch:3\r\n";

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, id: &str) -> Value {
        let node = |id| Value::Array(vec![text("host"), Value::Int(1), text(id)]);
        let (first, last) = (Value::Int(first), Value::Int(last));
        Value::Array(vec![first, last, node(id), node("replica")])
    }

    fn parse(id: &str, info: &str) -> OwnSlots {
        let ranges = vec![range(0, 5, "a"), range(6, 9, "b"), range(10, 10, "a")];
        OwnSlots::parse(vec![text(id), text(info), Value::Array(ranges)]).unwrap()
    }

    #[test]
    fn a_node_has_the_slots_of_which_it_is_the_master() {
        let own = parse("a", INFO);
        assert_eq!(own.ranges, [(0, 5), (10, 10)]);
        assert_eq!(own.epoch, "3");
        assert!(parse("replica", INFO).is_empty());
        assert!(parse("a", &INFO.replace("ok", "fail")).is_empty());
        assert_ne!(own, parse("a", &INFO.replace(":3", ":4")));
        for random in 0..20 {
            let slot = own.pick(random).unwrap();
            assert!(slot <= 5 || slot == 10);
        }
        assert_eq!(OwnSlots::default().pick(3), None);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refused = redis::parse_redis_value(b"-NOPERM no permission\r\n").unwrap();
        assert!(OwnSlots::parse(vec![text("a"), refused]).is_err());
    }
}
