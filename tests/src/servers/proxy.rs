//! A proxy between a client and a server, which counts, and delays, cuts, loses or limits on demand.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::process::Port;
use super::push_filter::PushFilter;

const NEVER: usize = usize::MAX;
/// With a limited rate, bytes are forwarded in parts of this size.
const LIMITED_PART: usize = 1024;
/// How much of an unused rate is made up for, because threads sleep too long.
const CATCH_UP: Duration = Duration::from_millis(20);
/// How many parts of replies may be on their way. The server cannot send more.
const MAX_ON_THE_WAY: usize = 1_000;

/// A TCP proxy for one server.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    cut_after: AtomicUsize,
    delay: AtomicU64,
    drip: AtomicU64,
    /// Bytes a second, or 0 for no limit.
    rate: AtomicUsize,
    /// With a limited rate: when what was forwarded so far is paid for.
    paid_until: Mutex<Option<Instant>>,
    /// How many bytes were forwarded, in both directions.
    forwarded: AtomicUsize,
    swallow: AtomicBool,
    lose: AtomicBool,
    lose_all: AtomicBool,
    lose_request: AtomicBool,
    shorten: AtomicBool,
    drop_pushes: AtomicBool,
    /// The connections with a lower number are lost.
    lost: AtomicUsize,
    target: Mutex<Option<SocketAddr>>,
    closed: AtomicBool,
    connections: AtomicUsize,
    round_trips: AtomicUsize,
    bytes_sent: AtomicUsize,
    bytes_received: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts a proxy for the server at an address.
    pub fn to(server: SocketAddr) -> Self {
        let (port, listener) = Port::listening();
        let state = Arc::new(State {
            cut_after: AtomicUsize::new(NEVER),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.closed.load(Ordering::SeqCst) {
                    break;
                }
                // If the server is absent, the client's connection is closed.
                if let Ok(client) = client {
                    let _ = shared.connect(client, server);
                }
            }
        });
        Self { port, state }
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Cuts the next reply, once, after this number of bytes, and closes its connection.
    pub fn cut_after(&self, bytes: usize) {
        self.state.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Cuts all open connections.
    pub fn cut_now(&self) {
        for connection in self.state.open().drain(..) {
            // The peer may have closed it already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Delays every reply, as a longer way does: later ones may be on their way at the same time.
    pub fn delay(&self, delay: Duration) {
        self.state.delay.store(micros(delay), Ordering::SeqCst);
    }

    /// Forwards replies byte by byte, with this delay before each byte; zero ends that.
    pub fn drip(&self, pause: Duration) {
        self.state.drip.store(micros(pause), Ordering::SeqCst);
    }

    /// Limits the rate to this number of bytes a second, for all connections and both directions
    /// together, as if the server could not do more. What it has not forwarded yet waits.
    pub fn limit(&self, bytes_a_second: usize) {
        self.state.rate.store(bytes_a_second, Ordering::SeqCst);
    }

    /// Starts or stops discarding the requests.
    pub fn swallow(&self, swallow: bool) {
        self.state.swallow.store(swallow, Ordering::SeqCst);
    }

    /// Loses all open connections: no byte, and no end of the stream, reaches the other side any more.
    pub fn lose_connections(&self) {
        let connections = self.connections();
        self.state.lost.store(connections, Ordering::SeqCst);
    }

    /// Drops the pushes of Redis on new connections.
    pub fn drop_pushes(&self) {
        self.state.drop_pushes.store(true, Ordering::SeqCst);
    }

    /// Removes the last byte of the next reply, once, and leaves the length that it states.
    pub fn shorten_reply(&self) {
        self.state.shorten.store(true, Ordering::SeqCst);
    }

    /// Loses the next reply, once. The connection goes on.
    pub fn lose_reply(&self) {
        self.state.lose.store(true, Ordering::SeqCst);
    }

    /// Loses the next replies that come together, such as all those to a batch, once. The connection goes on.
    pub fn lose_replies(&self) {
        self.state.lose_all.store(true, Ordering::SeqCst);
    }

    /// Loses the next request, once. The connection goes on.
    pub fn lose_request(&self) {
        self.state.lose_request.store(true, Ordering::SeqCst);
    }

    /// Returns whether what is to be lost has not come yet.
    pub fn is_to_lose(&self) -> bool {
        let State {
            lose,
            lose_all,
            lose_request,
            ..
        } = &*self.state;
        [lose, lose_all, lose_request]
            .iter()
            .any(|flag| flag.load(Ordering::SeqCst))
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, server: SocketAddr) {
        let target = self.state.target.lock();
        *target.unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Returns how many connections were accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Returns how often a client sent a request and waited for the reply. Everything sent before
    /// the first byte of the reply counts as one request: set a [`delay`](Self::delay), so that a
    /// request in several parts counts once.
    pub fn round_trips(&self) -> usize {
        self.state.round_trips.load(Ordering::SeqCst)
    }

    /// Returns how many bytes were sent to the server.
    pub fn bytes_sent(&self) -> usize {
        self.state.bytes_sent.load(Ordering::SeqCst)
    }

    /// Returns how many bytes were forwarded, in both directions.
    pub fn bytes_forwarded(&self) -> usize {
        self.state.forwarded.load(Ordering::SeqCst)
    }

    /// Returns how many bytes were received from the server.
    pub fn bytes_received(&self) -> usize {
        self.state.bytes_received.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.cut_now();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address());
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream, server: SocketAddr) -> io::Result<()> {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let target = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let server = TcpStream::connect(target.unwrap_or(server))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.open()
            .extend([client.try_clone()?, server.try_clone()?]);
        let awaiting = Arc::new(AtomicBool::new(false));
        let (state, awaits) = (Arc::clone(self), Arc::clone(&awaiting));
        let (from, to) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            let _ = state.requests(&from, &to, &awaits, number);
            state.hang_up(&from, &to, number);
        });
        let (way, arriving) = sync_channel(MAX_ON_THE_WAY);
        let (state, from) = (Arc::clone(self), server.try_clone()?);
        thread::spawn(move || state.receive(&from, &way));
        let state = Arc::clone(self);
        thread::spawn(move || {
            let _ = state.replies(&arriving, &client, &awaiting, number);
            state.hang_up(&server, &client, number);
        });
        Ok(())
    }

    fn requests(
        &self,
        mut from: &TcpStream,
        to: &TcpStream,
        awaiting: &AtomicBool,
        number: usize,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            if self.is_lost(number) {
                continue;
            }
            self.bytes_sent.fetch_add(length, Ordering::SeqCst);
            if !awaiting.swap(true, Ordering::SeqCst) {
                self.round_trips.fetch_add(1, Ordering::SeqCst);
            }
            let is_lost = self.lose_request.swap(false, Ordering::SeqCst);
            if !is_lost && !self.swallow.load(Ordering::SeqCst) {
                self.forward(&buffer[..length], to)?;
            }
        }
    }

    /// Reads replies until the connection ends, and sends them on their way with the time of their arrival.
    fn receive(&self, mut from: &TcpStream, way: &SyncSender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            self.bytes_received.fetch_add(length, Ordering::SeqCst);
            let arrival = Instant::now() + duration(&self.delay);
            if way.send((arrival, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    }

    fn replies(
        &self,
        arriving: &Receiver<(Instant, Vec<u8>)>,
        mut to: &TcpStream,
        awaiting: &AtomicBool,
        number: usize,
    ) -> io::Result<()> {
        let drops_pushes = self.drop_pushes.load(Ordering::SeqCst);
        let mut filter = drops_pushes.then(PushFilter::default);
        for (arrival, mut buffer) in arriving {
            if let Some(filter) = &mut filter {
                buffer = filter.pass(&buffer);
            }
            let length = buffer.len();
            let cut = self.cut_after.swap(NEVER, Ordering::SeqCst);
            thread::sleep(arrival.saturating_duration_since(Instant::now()));
            if self.is_lost(number) {
                continue;
            }
            awaiting.store(false, Ordering::SeqCst);
            let lost = if self.lose_all.swap(false, Ordering::SeqCst) {
                length
            } else if self.lose.swap(false, Ordering::SeqCst) {
                first_reply(&buffer)
            } else {
                0
            };
            let mut reply = buffer[lost..length.min(cut).max(lost)].to_vec();
            if !reply.is_empty() && self.shorten.swap(false, Ordering::SeqCst) {
                reply.remove(first_reply(&reply).saturating_sub(3));
            }
            if self.drip.load(Ordering::SeqCst) == 0 {
                self.forward(&reply, to)?;
            } else {
                for byte in &reply {
                    thread::sleep(duration(&self.drip));
                    to.write_all(&[*byte])?;
                }
            }
            if cut < length {
                return Ok(());
            }
            // A longer reply is cut in a later part.
            if cut != NEVER {
                let _ = self.cut_after.compare_exchange(
                    NEVER,
                    cut - length,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
            }
        }
        Ok(())
    }

    fn is_lost(&self, connection: usize) -> bool {
        connection < self.lost.load(Ordering::SeqCst)
    }

    /// Closes both sides of a connection, unless it is lost.
    fn hang_up(&self, one: &TcpStream, other: &TcpStream, connection: usize) {
        if !self.is_lost(connection) {
            // Both may be closed already.
            let _ = one.shutdown(Shutdown::Both);
            let _ = other.shutdown(Shutdown::Both);
        }
    }

    /// Writes bytes as fast as the rate allows.
    fn forward(&self, bytes: &[u8], mut to: &TcpStream) -> io::Result<()> {
        let is_limited = self.rate.load(Ordering::SeqCst) > 0;
        for part in bytes.chunks(if is_limited { LIMITED_PART } else { usize::MAX }) {
            self.pay_for(part.len());
            self.forwarded.fetch_add(part.len(), Ordering::SeqCst);
            to.write_all(part)?;
        }
        Ok(())
    }

    /// Waits until the rate allows so many bytes more.
    fn pay_for(&self, bytes: usize) {
        let rate = self.rate.load(Ordering::SeqCst);
        if rate == 0 {
            return;
        }
        #[allow(clippy::cast_precision_loss)]
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let paid_until = {
            let now = Instant::now();
            let mut paid_until = (self.paid_until.lock()).unwrap_or_else(PoisonError::into_inner);
            let begin = (*paid_until).unwrap_or(now).max(now - CATCH_UP);
            *paid_until.insert(begin + cost)
        };
        thread::sleep(paid_until.saturating_duration_since(Instant::now()));
    }

    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the length of the first of some replies: of a line, or of a value.
fn first_reply(replies: &[u8]) -> usize {
    let Some(end) = replies.windows(2).position(|two| two == b"\r\n") else {
        return replies.len();
    };
    let line = std::str::from_utf8(&replies[..end]).unwrap_or_default();
    // Redis writes `$5`, and Memcached `VA 5`, before a value of five bytes.
    let length = line.strip_prefix('$').or_else(|| line.strip_prefix("VA "));
    let length = length.and_then(|length| length.split(' ').next()?.parse::<usize>().ok());
    let value = length.map_or(0, |length| length + 2);
    (end + 2 + value).min(replies.len())
}

fn duration(micros: &AtomicU64) -> Duration {
    Duration::from_micros(micros.load(Ordering::SeqCst))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
