//! What stands between a client and a server: it counts, and it harms on demand.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::process::Port;

const NEVER: usize = usize::MAX;

/// A proxy in front of a server.
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
    swallow: AtomicBool,
    closed: AtomicBool,
    connections: AtomicUsize,
    round_trips: AtomicUsize,
    bytes_sent: AtomicUsize,
    bytes_received: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy in front of the server at an address.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub fn to(server: SocketAddr) -> Self {
        let port = Port::free();
        let listener = match TcpListener::bind(port.address()) {
            Ok(listener) => listener,
            Err(error) => panic!("no port for a proxy: {error}"),
        };
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
                // A server that is not there is one that hangs up.
                if let Ok(client) = client {
                    let _ = shared.connect(client, server);
                }
            }
        });
        Self { port, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Cuts the next reply after some bytes, and the connection with it. Once.
    pub fn cut_after(&self, bytes: usize) {
        self.state.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Cuts all connections that there are.
    pub fn cut_now(&self) {
        for connection in self.state.open().drain(..) {
            // The other side may have hung up already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Holds back every reply for so long.
    pub fn delay(&self, delay: Duration) {
        self.state.delay.store(micros(delay), Ordering::SeqCst);
    }

    /// Lets replies through byte by byte, with so much time before each; zero ends that.
    pub fn drip(&self, pause: Duration) {
        self.state.drip.store(micros(pause), Ordering::SeqCst);
    }

    /// Takes what is sent to the server and passes nothing on; or ends that.
    pub fn swallow(&self, swallow: bool) {
        self.state.swallow.store(swallow, Ordering::SeqCst);
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How often a client has sent something and waited for the answer: what it sends before the
    /// first byte of a reply has reached it counts as one. Give replies some [`delay`](Self::delay)
    /// to tell a request in several parts from several requests.
    pub fn round_trips(&self) -> usize {
        self.state.round_trips.load(Ordering::SeqCst)
    }

    /// How many bytes have gone to the server.
    pub fn bytes_sent(&self) -> usize {
        self.state.bytes_sent.load(Ordering::SeqCst)
    }

    /// How many bytes have come back from the server.
    pub fn bytes_received(&self) -> usize {
        self.state.bytes_received.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.cut_now();
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address());
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream, server: SocketAddr) -> io::Result<()> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let server = TcpStream::connect(server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.open()
            .extend([client.try_clone()?, server.try_clone()?]);
        let asking = Arc::new(AtomicBool::new(false));
        let (state, asks) = (Arc::clone(self), Arc::clone(&asking));
        let (from, to) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            let _ = state.requests(&from, &to, &asks);
            hang_up(&from, &to);
        });
        let state = Arc::clone(self);
        thread::spawn(move || {
            let _ = state.replies(&server, &client, &asking);
            hang_up(&server, &client);
        });
        Ok(())
    }

    fn requests(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        asking: &AtomicBool,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            self.bytes_sent.fetch_add(length, Ordering::SeqCst);
            if !asking.swap(true, Ordering::SeqCst) {
                self.round_trips.fetch_add(1, Ordering::SeqCst);
            }
            if !self.swallow.load(Ordering::SeqCst) {
                to.write_all(&buffer[..length])?;
            }
        }
    }

    fn replies(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        asking: &AtomicBool,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            self.bytes_received.fetch_add(length, Ordering::SeqCst);
            let cut = self.cut_after.swap(NEVER, Ordering::SeqCst);
            sleep(&self.delay);
            asking.store(false, Ordering::SeqCst);
            let reply = &buffer[..length.min(cut)];
            if self.drip.load(Ordering::SeqCst) == 0 {
                to.write_all(reply)?;
            } else {
                for byte in reply {
                    sleep(&self.drip);
                    to.write_all(&[*byte])?;
                }
            }
            if cut < length {
                return Ok(());
            }
            // A longer reply is cut in a later part of it.
            if cut != NEVER {
                let _ = self.cut_after.compare_exchange(
                    NEVER,
                    cut - length,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hang_up(one: &TcpStream, other: &TcpStream) {
    // Either may be closed already.
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}

fn sleep(duration: &AtomicU64) {
    thread::sleep(Duration::from_micros(duration.load(Ordering::SeqCst)));
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
