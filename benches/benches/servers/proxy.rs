//! The proxy of the tests, in a process of its own: its CPU time is not that of the clients.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cacheio_tests::servers;

const ARGUMENT: &str = "--proxy";

/// A process that runs this program as a proxy.
pub(crate) struct Proxy {
    process: Child,
    address: SocketAddr,
}

impl Proxy {
    /// Starts a proxy that delays each reply of a server.
    pub(crate) fn start(server: SocketAddr, delay: Duration) -> Self {
        let program = std::env::current_exe().expect("a program");
        let mut process = Command::new(program)
            .args([
                ARGUMENT,
                &server.to_string(),
                &delay.as_micros().to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("the proxy prints its address");
        let address = line.trim().parse().expect("an address");
        Self { process, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this process is to be a proxy.
pub(crate) fn is_asked_for() -> bool {
    std::env::args().any(|argument| argument == ARGUMENT)
}

/// Is a proxy until the standard input is closed.
pub(crate) fn run() {
    let mut arguments = std::env::args().skip_while(|argument| argument != ARGUMENT);
    let server = arguments.nth(1).and_then(|server| server.parse().ok());
    let delay = arguments.next().and_then(|delay| delay.parse().ok());
    let (Some(server), Some(delay)) = (server, delay) else {
        panic!("{ARGUMENT} ADDRESS MICROSECONDS");
    };
    let proxy = servers::Proxy::to(server);
    proxy.delay(Duration::from_micros(delay));
    println!("{}", proxy.address());
    // The input ends with the process that started this one.
    let _ = std::io::stdin().read(&mut [0]);
}
