//! A proxy that holds back what a client has sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A proxy that can hold back what connections have sent, even after the client closed them.
pub(crate) struct DelayProxy {
    held: Arc<AtomicUsize>,
}

impl DelayProxy {
    /// Listens on a TCP port.
    pub(crate) fn to(server: SocketAddr) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accept = move || {
            let (client, _) = listener.accept().unwrap();
            (client.try_clone().unwrap(), client)
        };
        (Self::start(accept, server), address)
    }

    /// Listens on a Unix socket.
    pub(crate) fn from_socket(path: &std::path::Path, server: SocketAddr) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        let accept = move || {
            let (client, _) = listener.accept().unwrap();
            (client.try_clone().unwrap(), client)
        };
        Self::start(accept, server)
    }

    fn start<C: Read + Write + Send + 'static>(
        accept: impl Fn() -> (C, C) + Send + 'static,
        server: SocketAddr,
    ) -> Self {
        // Connections with lower numbers are held.
        let held = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&held);
        std::thread::spawn(move || {
            for number in 0.. {
                let (mut up, mut to) = accept();
                let mut from = TcpStream::connect(server).unwrap();
                let mut down = from.try_clone().unwrap();
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let held = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = up.read(&mut buffer) {
                        while number < held.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        let _ = down.write_all(&buffer[..length]);
                    }
                });
            }
        });
        Self { held }
    }

    /// Holds what the first connection sends.
    pub(crate) fn hold(&self) {
        self.held.store(1, Ordering::SeqCst);
    }

    pub(crate) fn release(&self) {
        self.held.store(0, Ordering::SeqCst);
    }
}
