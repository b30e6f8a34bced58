//! The processes, as the main one has them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use anyhow::{Context as _, ensure};

use crate::worker::Mode;

const COUNT: usize = 4;
/// How long a line may take. The machine may be busy.
const LIMIT: Duration = Duration::from_secs(30);

/// The processes of one mode.
pub(crate) struct Workers {
    pub(crate) all: Vec<Worker>,
    mode: Mode,
    url: String,
}

impl Workers {
    pub(crate) fn start(mode: Mode, url: &str) -> anyhow::Result<Self> {
        let all = (0..COUNT).map(|_| Worker::start(mode, url));
        let mut workers = Self {
            all: all.collect::<Result<_, _>>()?,
            mode,
            url: url.to_owned(),
        };
        workers.expect_all("ready")?;
        workers.tell_all("clear");
        workers.expect_all("cleared")?;
        Ok(workers)
    }

    /// Replaces a process by a new one.
    pub(crate) fn restart(&mut self, at: usize) -> anyhow::Result<()> {
        self.all[at] = Worker::start(self.mode, &self.url)?;
        self.all[at].expect("ready").map(drop)
    }

    pub(crate) fn tell_all(&mut self, line: &str) {
        for worker in &mut self.all {
            worker.tell(line);
        }
    }

    pub(crate) fn expect_all(&mut self, line: &str) -> anyhow::Result<()> {
        for worker in &mut self.all {
            worker.expect(line)?;
        }
        Ok(())
    }

    /// Reads a number from each process.
    fn numbers(&mut self, name: &str) -> anyhow::Result<Vec<u64>> {
        let numbers = self.all.iter_mut().map(|worker| worker.number(name));
        numbers.collect()
    }

    pub(crate) fn sum(&mut self, name: &str) -> anyhow::Result<u64> {
        Ok(self.numbers(name)?.iter().sum())
    }

    pub(crate) fn max(&mut self, name: &str) -> anyhow::Result<u64> {
        self.numbers(name)?.into_iter().max().context("no process")
    }
}

/// A process, and the lines that it prints.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Receiver<(Instant, String)>,
}

impl Worker {
    fn start(mode: Mode, url: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(mode.arguments(url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().context("no output")?);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take().context("no input")?;
        Ok(Self {
            child,
            input,
            lines,
        })
    }

    pub(crate) fn tell(&mut self, line: &str) {
        // A process that has ended prints no more lines, which is noticed.
        let _ = writeln!(self.input, "{line}");
    }

    /// Waits for a line, and returns when it came.
    pub(crate) fn expect(&mut self, expected: &str) -> anyhow::Result<Instant> {
        let (at, line) = self
            .lines
            .recv_timeout(LIMIT)
            .context(expected.to_owned())?;
        ensure!(line == expected, "{line:?} instead of {expected:?}");
        Ok(at)
    }

    fn number(&mut self, name: &str) -> anyhow::Result<u64> {
        let (_, line) = self.lines.recv_timeout(LIMIT).context(name.to_owned())?;
        let number = line.strip_prefix(name).context(line.clone())?;
        Ok(number.trim().parse()?)
    }

    /// Ends the process as `kill -9` does.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}
