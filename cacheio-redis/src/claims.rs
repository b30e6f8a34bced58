//! Claims on keys: one process at a time loads a key, and only its value is stored.
//!
//! A claim on the key *k* is a key of its own beside it, [`ClaimKeys`], whose value is the random token of
//! its holder. All steps that depend on it are scripts:
//!
//! - [`CLAIM`] sets it if there is none, and reads *k*.
//! - [`RENEW`] prolongs the claims of this process once per second. A claim that was not renewed for 3 s
//!   belongs to a process that no longer responds: the next one that claims the key takes it over.
//! - [`SETTLE`] stores the value of a load if the claim still has the token of the load, and *k* is still
//!   what it was when it was claimed. The second condition is for writes that reach the server in two
//!   pieces, with a claim between them.
//! - A write of *k* removes the claim in front of its command, in the same request ([`Request::write`]).
//!
//! After a load that left no value, the claim becomes a *mark*: for a second its text, a `-` and the last
//! token, is the token of all who load. They do not wait for each other, and the first one to settle
//! stores its value.
//!
//! [`Request::write`]: crate::request::Request::write

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cacheio_core::__private::{runtime, within};
use cacheio_core::{
    Claim, ClaimMode, Claimed, Entry, Error, ErrorKind, Key, Payload, Result, Settled, Settlement,
};
use redis::{Cmd, RedisError, ServerErrorKind, Value, cmd};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::batching::Batcher;
use crate::failure::Failure;
use crate::reply::{value, values, without_tracking};
use crate::request::{Request, bytes, milliseconds};
use crate::topology::{Part, Topology};
use crate::tracking::caching;

/// Claims keys. The keys are pairs of a key and its claim. The arguments: whether to take over any claim,
/// and for each pair a token, and what [`GIVE_BACK`] is about to get. Returns for each pair the token of the
/// holder, and the value, unless all claims are taken over; `1` instead of a value that is not a string.
const CLAIM: &str = "\
local claimed = {}
for i = 1, #KEYS, 2 do
  local k, c, token, given_back = KEYS[i], KEYS[i + 1], ARGV[i + 1], ARGV[i + 2]
  local holder = redis.call('GET', c)
  if holder and '-' .. holder == given_back then
    redis.call('SET', c, given_back, 'PX', 1000)
    holder = given_back
  end
  if not holder or ARGV[1] == '1' or holder == given_back and string.sub(holder, 1, 1) ~= '-'
    or (string.sub(holder, 1, 1) ~= '-' and redis.call('PTTL', c) < 57000) then
    redis.call('SET', c, token, 'PX', 60000)
    holder = token
  end
  local value = false
  if ARGV[1] ~= '1' then
    value = redis.pcall('GET', k)
    if type(value) == 'table' then value = 1 end
  end
  claimed[#claimed + 1] = {holder, value}
end
return claimed";

/// Prolongs claims, each if it has the token in the arguments.
const RENEW: &str = "\
for i, c in ipairs(KEYS) do
  if redis.call('GET', c) == ARGV[i] then redis.call('PEXPIRE', c, 60000) end
end
return 0";

/// Removes claims that were dropped, each if it has the token in the arguments. With a `-` before the token,
/// the claim becomes a mark.
const GIVE_BACK: &str = "\
for i, c in ipairs(KEYS) do
  local token, mark = string.gsub(ARGV[i], '^%-', '')
  if redis.call('GET', c) ~= token then
  elseif mark == 1 then redis.call('SET', c, ARGV[i], 'PX', 1000)
  else redis.call('UNLINK', c) end
end
return 0";

/// Ends claims. The keys are pairs of a key and its claim. Each pair has seven arguments: the token; what to
/// do, `set` or `del`; what the key must hold, `none`, `any`, `part`, `all` or `type` (no string); the
/// position and the bytes of that part; the TTL in milliseconds or 0; the value. Returns for each pair
/// whether it was done. The value is the first write of the script: a server without memory refuses only
/// that one.
const SETTLE: &str = "\
local done = {}
for i = 1, #KEYS / 2 do
  local k, c = KEYS[2 * i - 1], KEYS[2 * i]
  local token, action, holds, from, part, ttl, value = unpack(ARGV, 7 * i - 6, 7 * i)
  local held = redis.call('GET', c) == token
  local same = held
  if held then
    if holds == 'none' then same = redis.call('EXISTS', k) == 0
    elseif holds ~= 'any' then
      local is_string = redis.call('TYPE', k).ok == 'string'
      if holds == 'type' then same = not is_string
      else
        same = is_string and redis.call('GETRANGE', k, from, from + #part - 1) == part
          and (holds == 'part' or redis.call('STRLEN', k) == #part)
      end
    end
  end
  if same and action == 'del' then redis.call('UNLINK', k)
  elseif same and ttl == '0' then redis.call('SET', k, value)
  elseif same then redis.call('SET', k, value, 'PX', ttl) end
  if held and (action == 'set' or not same) then redis.call('UNLINK', c)
  elseif held and string.sub(token, 1, 1) ~= '-' then
    redis.call('SET', c, '-' .. token, 'PX', 1000)
  end
  done[i] = same and 1 or 0
end
return done";

/// How long a server that has refused a script is not asked again.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// How often claims are renewed.
const RENEWAL: Duration = Duration::from_secs(1);
/// How many keys one script names: the server serves no other client meanwhile.
const MAX_KEYS: usize = 256;
/// The size of values of which several are stored by one script.
const SMALL: usize = 4 * 1024;

/// The claims of this process on the servers of one store.
pub(crate) struct Claims {
    topology: Arc<Topology>,
    held: Mutex<Held>,
    given_back: Notify,
    /// Until when the server is not asked again, because it refuses scripts.
    refused_until: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Held {
    /// By their tokens.
    claims: HashMap<u64, Box<str>>,
    /// Those that were dropped, until the server knows: their tokens, with a `-` if the load failed. The
    /// next claim of the same key takes over from the last one.
    given_back: HashMap<Box<str>, Vec<String>>,
    /// Whether a task renews claims and gives them back.
    has_keeper: bool,
}

/// A claim that this process holds, until it is dropped.
struct HeldClaim {
    claims: Arc<Claims>,
    id: u64,
    /// The claim on the same key that is about to be given back.
    given_back: Option<String>,
    /// The text that all who load under a mark have as their token.
    mark: Option<Vec<u8>>,
    holds: Holds,
    /// Whether its load has failed.
    has_failed: bool,
    /// Whether the server may still have it.
    is_open: bool,
}

/// What a key held when it was claimed.
enum Holds {
    Nothing,
    /// It was not read.
    Anything,
    /// Bytes at a position, and whether these are all.
    Bytes(usize, Vec<u8>, bool),
    NoString,
}

impl Claims {
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        Self {
            topology,
            held: Mutex::default(),
            given_back: Notify::new(),
            refused_until: Mutex::default(),
        }
    }

    /// Claims keys, in one round trip to each server.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        keys: &[Key<'_>],
        mode: ClaimMode,
    ) -> Result<Vec<Claimed>, Failure> {
        let force = mode == ClaimMode::TakeOver;
        if self.are_refused() {
            return Ok(keys.iter().map(|_| Claimed::Unsupported).collect());
        }
        // The keeper knows them before the server does: it gives them back if this call is dropped.
        let mut held = Vec::with_capacity(keys.len());
        for key in keys {
            held.push(Some(self.hold(key)?));
        }
        let tokens: Vec<_> = held
            .iter()
            .flatten()
            .map(|held| (held.token(), held.given_back.clone().unwrap_or_default()))
            .collect();
        let command = |part: &[usize]| {
            let mut command = self.script(CLAIM, part, |at| keys[at].text());
            command.arg(u8::from(force));
            for at in part {
                command.arg(&tokens[*at].0).arg(&tokens[*at].1);
            }
            command
        };
        let (is_told, parts) = match self.tracked_connection(keys, mode) {
            Some(connection) => match self.send_tracked(connection, command(&[0])).await {
                Ok((is_told, part)) => (is_told, Ok(vec![part])),
                Err(failure) => (false, Err(failure)),
            },
            None => (false, self.send_script(keys, MAX_KEYS, command).await),
        };
        let parts = match parts {
            Err(Failure::Redis(error)) if refuses_scripts(&error) => {
                held.iter_mut().flatten().for_each(HeldClaim::close);
                self.on_refused(&error);
                return Ok(keys.iter().map(|_| Claimed::Unsupported).collect());
            }
            parts => parts?,
        };
        let mut claimed: Vec<_> = keys.iter().map(|_| Claimed::Unsupported).collect();
        for part in parts {
            if let Value::ServerError(error) = &part.reply {
                let error = RedisError::from(error.clone());
                if !refuses_scripts(&error) {
                    return Err(Failure::Redis(error));
                }
                self.on_refused(&error);
                continue;
            }
            for (at, reply) in part.keys.into_iter().zip(values(part.reply)?) {
                if let Some(held) = held[at].take() {
                    claimed[at] = held.claimed(reply, force, is_told)?;
                }
            }
        }
        Ok(claimed)
    }

    /// Ends claims, in one round trip to each server.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        loads: Vec<Settlement<'_>>,
    ) -> Result<Vec<bool>, Failure> {
        let mut done = vec![true; loads.len()];
        let mut keys = Vec::with_capacity(loads.len());
        let mut settled = Vec::with_capacity(loads.len());
        let mut failure = None;
        for (index, load) in loads.into_iter().enumerate() {
            let Some(mut claim) = load.claim.downcast::<HeldClaim>() else {
                return Err(foreign_claim());
            };
            let (action, value, ttl) = match load.loaded {
                Settled::Entry(entry, ttl) => match bytes(entry) {
                    Ok(value) => ("set", value, ttl),
                    Err(error) => {
                        // The old value must not be taken for the one that was to replace it.
                        failure = Some(error);
                        ("del", Vec::new(), None)
                    }
                },
                Settled::Removed => ("del", Vec::new(), None),
                // The keeper tells the server: no caller waits for that.
                _ => {
                    claim.has_failed = true;
                    continue;
                }
            };
            done[index] = false;
            keys.push(load.key);
            settled.push((index, claim, action, value, ttl.map_or(0, milliseconds)));
        }
        let command = |part: &[usize]| {
            let mut command = self.script(SETTLE, part, |at| keys[at].text());
            for at in part {
                let (_, claim, action, value, ttl) = &settled[*at];
                command.arg(claim.token()).arg(*action);
                claim.holds.add_to(&mut command);
                command.arg(*ttl).arg(value);
            }
            command
        };
        let largest = settled.iter().map(|(_, _, _, value, _)| value.len()).max();
        let max_keys = if largest > Some(SMALL) { 1 } else { MAX_KEYS };
        let parts = self.send_script(&keys, max_keys, command).await?;
        for part in parts {
            for (at, reply) in part.keys.into_iter().zip(values(part.reply)?) {
                let (index, claim, ..) = &mut settled[at];
                claim.close();
                done[*index] = reply == Value::Int(1);
            }
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(done),
        }
    }

    /// Begins a script on pairs of a key and its claim.
    fn script<'a>(&self, script: &str, part: &[usize], key: impl Fn(usize) -> &'a str) -> Cmd {
        let mut command = cmd("EVAL");
        command.arg(script).arg(2 * part.len());
        for at in part {
            let key = key(*at);
            command.arg(key).arg(self.topology.claim_key(key));
        }
        command
    }

    /// Sends a script on keys. That on one key may be sent in a batch.
    async fn send_script(
        &self,
        keys: &[Key<'_>],
        max_keys: usize,
        command: impl Fn(&[usize]) -> Cmd,
    ) -> Result<Vec<Part>, Failure> {
        let [key] = keys else {
            return self.topology.send_many(keys, max_keys, command).await;
        };
        let request = Request::one(command(&[0]));
        let reply = self.topology.send(key, &request).await?;
        let keys = vec![0];
        Ok(vec![Part { keys, reply }])
    }

    /// Returns the connection on which the server can tell a caller that waits of changes of its key.
    fn tracked_connection(&self, keys: &[Key<'_>], mode: ClaimMode) -> Option<&Arc<Batcher>> {
        let [key] = keys else {
            return None;
        };
        let connection = self.topology.server_connection(key)?;
        (mode == ClaimMode::Wait && connection.is_tracked()).then_some(connection)
    }

    /// Sends a script on one key. Returns whether the server tells of the next change of what the script has read,
    /// and the reply.
    async fn send_tracked(
        &self,
        connection: &Arc<Batcher>,
        script: Cmd,
    ) -> Result<(bool, Part), Failure> {
        let request = Request::many([caching(), script]);
        let replies = connection.send(&request, self.topology.deadline()).await?;
        let (is_told, mut replies) = without_tracking(values(replies)?, 1);
        let reply = replies.next().ok_or_else(Failure::unexpected_reply)?;
        let keys = vec![0];
        Ok((is_told, Part { keys, reply }))
    }

    fn hold(self: &Arc<Self>, key: &Key<'_>) -> Result<HeldClaim> {
        let id = new_token();
        let mut held = self.lock();
        held.claims.insert(id, key.text().into());
        let given_back = held.given_back.get(key.text());
        let given_back = given_back.and_then(|tokens| tokens.last().cloned());
        let starts = !std::mem::replace(&mut held.has_keeper, true);
        drop(held);
        let claim = HeldClaim {
            claims: Arc::clone(self),
            id,
            given_back,
            mark: None,
            holds: Holds::Nothing,
            has_failed: false,
            is_open: true,
        };
        if starts {
            let runtime = runtime().inspect_err(|_| self.lock().has_keeper = false)?;
            runtime.spawn(Arc::clone(self).keep());
        }
        Ok(claim)
    }

    /// Renews the claims of this process, and gives back those that were dropped. Ends when there are none.
    async fn keep(self: Arc<Self>) {
        let mut renew_at = Instant::now() + RENEWAL;
        loop {
            let left = renew_at.saturating_duration_since(Instant::now());
            tokio::select! {
                () = sleep(left) => {}
                () = self.given_back.notified() => {}
            }
            let given_back = self.lock().given_back();
            self.send(GIVE_BACK, &given_back).await;
            self.lock().forget(&given_back);
            if Instant::now() < renew_at {
                continue;
            }
            renew_at = Instant::now() + RENEWAL;
            let held: Vec<_> = {
                let mut held = self.lock();
                if held.claims.is_empty() && held.given_back.is_empty() {
                    held.has_keeper = false;
                    return;
                }
                let claims = held.claims.iter();
                claims
                    .map(|(id, key)| (key.clone(), token_text(*id)))
                    .collect()
            };
            self.send(RENEW, &held).await;
        }
    }

    /// Sends a script on claims, whose failure changes nothing: the claims expire.
    async fn send(&self, script: &str, claims: &[(Box<str>, String)]) {
        // Each part has its own time, so that the last claims of many are not left out.
        for claims in claims.chunks(MAX_KEYS) {
            let keys: Vec<_> = claims.iter().map(|(key, _)| Key::new(key)).collect();
            let command = |part: &[usize]| {
                let mut command = cmd("EVAL");
                command.arg(script).arg(part.len());
                for at in part {
                    command.arg(self.topology.claim_key(keys[*at].text()));
                }
                for at in part {
                    command.arg(&claims[*at].1);
                }
                command
            };
            let sent = self.topology.send_many(&keys, MAX_KEYS, command);
            // It does not wait for a whole timeout: the callers find out whether the server responds.
            let deadline = Instant::now() + RENEWAL.min(self.topology.timeout() / 2);
            if within(deadline, sent).await.is_none() {
                return;
            }
        }
    }

    /// Goes on without claims.
    fn on_refused(&self, error: &RedisError) {
        let until = Instant::now() + REFUSED_FOR;
        if self.refused_until().replace(until).is_none() {
            tracing::warn!(
                target: "cacheio",
                server = self.topology.name(),
                reason = error.code(),
                "the server refuses scripts (EVAL); each process loads for itself, and writes of other \
                 processes do not prevent that loads are stored",
            );
        }
    }

    /// Returns whether the server refuses scripts. Its permissions may change, or another server take its place.
    fn are_refused(&self) -> bool {
        self.refused_until()
            .is_some_and(|until| Instant::now() < until)
    }

    fn refused_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.refused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Returns the claims to give back.
    fn given_back(&self) -> Vec<(Box<str>, String)> {
        let given_back = self.given_back.iter();
        let tokens =
            given_back.flat_map(|(key, tokens)| tokens.iter().map(move |token| (key, token)));
        tokens
            .map(|(key, token)| (key.clone(), token.clone()))
            .collect()
    }

    /// Forgets claims that were given back.
    fn forget(&mut self, given_back: &[(Box<str>, String)]) {
        for (key, token) in given_back {
            if let Some(tokens) = self.given_back.get_mut(key) {
                tokens.retain(|other| other != token);
                if tokens.is_empty() {
                    self.given_back.remove(key);
                }
            }
        }
    }
}

impl HeldClaim {
    fn token(&self) -> Vec<u8> {
        match &self.mark {
            Some(mark) => mark.clone(),
            None => token_text(self.id).into_bytes(),
        }
    }

    /// Reads the reply to [`CLAIM`] for one key.
    fn claimed(mut self, reply: Value, force: bool, is_told: bool) -> Result<Claimed, Failure> {
        let mut reply = values(reply)?.into_iter();
        let holder = reply.next().map(value).transpose()?.flatten();
        let holder = holder.ok_or_else(Failure::unexpected_reply)?;
        let found = reply.next().unwrap_or(Value::Nil);
        let is_string = !matches!(found, Value::Int(_));
        let entry = match is_string {
            true => value(found)?.map(Entry::bytes),
            false => None,
        };
        if holder.first() == Some(&b'-') {
            self.close();
            self.mark = Some(holder);
        } else if holder != self.token() {
            self.close();
            return Ok(Claimed::Lost { entry, is_told });
        }
        self.holds = match &entry {
            _ if force => Holds::Anything,
            _ if !is_string => Holds::NoString,
            None => Holds::Nothing,
            Some(entry) => Holds::of(entry),
        };
        Ok(Claimed::Won {
            claim: Claim::new(self),
            entry,
        })
    }

    /// Forgets the claim: it has ended, or is none of this process.
    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.claims.lock().claims.remove(&self.id);
        }
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let mut held = self.claims.lock();
            if let Some(key) = held.claims.remove(&self.id) {
                let mark = if self.has_failed { "-" } else { "" };
                let token = format!("{mark}{}", token_text(self.id));
                held.given_back.entry(key).or_default().push(token);
                drop(held);
                self.claims.given_back.notify_one();
            }
        }
    }
}

impl Holds {
    fn of(entry: &Entry) -> Self {
        let Payload::Bytes(bytes) = &entry.payload else {
            return Self::Nothing;
        };
        let identity = entry.identity();
        let is_whole = identity.len() == bytes.len();
        Self::Bytes(identity.start, bytes[identity].to_vec(), is_whole)
    }

    /// Adds the arguments of [`SETTLE`] that say what the key must hold.
    fn add_to(&self, command: &mut Cmd) {
        let (holds, from, part) = match self {
            Self::Nothing => ("none", 0, &[][..]),
            Self::Anything => ("any", 0, &[][..]),
            Self::NoString => ("type", 0, &[][..]),
            Self::Bytes(from, part, true) => ("all", *from, &part[..]),
            Self::Bytes(from, part, false) => ("part", *from, &part[..]),
        };
        command.arg(holds).arg(from).arg(part);
    }
}

/// Returns a number that no other claim has, in any process.
fn new_token() -> u64 {
    static RANDOM: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    RANDOM.hash_one(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn token_text(token: u64) -> String {
    format!("{token:016x}")
}

/// Returns whether a server refused a script, and would refuse every other one: for want of a permission,
/// because it does not know the command, or because a proxy sends the two keys to different servers.
fn refuses_scripts(error: &RedisError) -> bool {
    let text = error.to_string();
    match error.kind() {
        redis::ErrorKind::Server(ServerErrorKind::CrossSlot) => true,
        // The other errors of this kind are about keys.
        redis::ErrorKind::Server(ServerErrorKind::NoPerm) => text.contains("run"),
        _ => text.contains("unknown command") || text.contains("run this command"),
    }
}

fn foreign_claim() -> Failure {
    Failure::Store(Error::new(
        ErrorKind::Unsupported,
        "the claim is that of another store",
    ))
}
