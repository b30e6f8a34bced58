//! Decodes what a server sends, without I/O: it is given bytes, and hands out responses and lines.

use super::failure::Failure;
use super::protocol::{Head, Response};

/// Holds the first line of any response, and most responses as a whole.
const INPUT_SIZE: usize = 16 << 10;

/// By how much the buffer of a long value grows at a time, since a malformed response may announce
/// more than it has.
const VALUE_STEP: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Decoder {
    /// Received bytes. Those from `start` to `end` have not been decoded yet.
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// How many of the undecoded bytes contain no line end.
    searched: usize,
    value: Option<PartialValue>,
}

/// A response whose value is being received.
#[derive(Debug)]
struct PartialValue {
    response: Response,
    length: usize,
    /// How many bytes of the value were received. The rest of the vector is room for more.
    filled: usize,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            input: vec![0; INPUT_SIZE].into_boxed_slice(),
            start: 0,
            end: 0,
            searched: 0,
            value: None,
        }
    }

    /// Returns whether everything that was received was handed out.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end && self.value.is_none()
    }

    /// Returns where to put the next bytes, at least one.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if let Some(value) = self.value.as_mut().filter(|value| value.is_incomplete()) {
            return value.space();
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.input[self.end..]
    }

    /// Takes note of bytes that were put into the [`space`](Self::space).
    pub(super) fn advance(&mut self, received: usize) {
        match self.value.as_mut().filter(|value| value.is_incomplete()) {
            Some(value) => value.filled += received,
            None => self.end += received,
        }
    }

    /// Returns what `read` makes of the next line without its end, or `None` if it is not complete.
    pub(super) fn line<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Failure> {
        self.raw_line(|line| read(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Does the same, with the `\r` of a line's end. Some lines of memcached end without it.
    fn raw_line<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Failure> {
        let input = &self.input[self.start..self.end];
        let unsearched = &input[self.searched..];
        if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
            let result = read(&input[..self.searched + at]);
            self.start += self.searched + at + 1;
            self.searched = 0;
            return Ok(Some(result));
        }
        self.searched = input.len();
        if self.searched == self.input.len() {
            return Err(Failure::Malformed("a line is longer than 16 KiB"));
        }
        Ok(None)
    }

    /// Returns the next response with its value, or `None` if it is not complete. An error that the
    /// server responds with is a [`Failure::Server`].
    pub(super) fn response(&mut self) -> Result<Option<Response>, Failure> {
        if self.value.is_none() {
            let Some(head) = self.line(Head::parse)? else {
                return Ok(None);
            };
            match head {
                None => {
                    return Err(Failure::Malformed(
                        "the response does not follow memcached's meta protocol",
                    ));
                }
                Some(Head::Error(error)) => return Err(Failure::Server(error)),
                Some(Head::Response(response, None)) => return Ok(Some(response)),
                Some(Head::Response(response, Some(length))) => {
                    let value =
                        PartialValue::new(response, length, &self.input[self.start..self.end]);
                    self.start += value.filled;
                    self.value = Some(value);
                }
            }
        }
        if self.value.as_ref().is_some_and(PartialValue::is_incomplete) {
            return Ok(None);
        }
        // If the value were a byte shorter, its last byte would be the first of its end.
        match self.raw_line(|line| line == b"\r")? {
            None => Ok(None),
            Some(true) => Ok(self.value.take().map(|value| value.response)),
            Some(false) => Err(Failure::Malformed(
                "a value has another length than the server announced",
            )),
        }
    }
}

impl PartialValue {
    /// Starts a value with the bytes that were received with the head of its response.
    fn new(mut response: Response, length: usize, received: &[u8]) -> Self {
        let received = &received[..length.min(received.len())];
        response.value.reserve_exact(length.min(VALUE_STEP));
        response.value.extend_from_slice(received);
        Self {
            response,
            length,
            filled: received.len(),
        }
    }

    fn is_incomplete(&self) -> bool {
        self.filled < self.length
    }

    fn space(&mut self) -> &mut [u8] {
        let value = &mut self.response.value;
        if self.filled == value.len() {
            value.resize(self.length.min(self.filled + VALUE_STEP), 0);
        }
        &mut value[self.filled..]
    }
}

#[cfg(test)]
mod tests {
    use memcache::exp::ReturnCode;

    use super::*;

    /// Gives bytes to a decoder in parts of a size, and returns all responses.
    fn decode(bytes: &[u8], size: usize) -> Result<Vec<Response>, Failure> {
        let (mut decoder, mut responses) = (Decoder::new(), Vec::new());
        for mut part in bytes.chunks(size) {
            while !part.is_empty() {
                let space = decoder.space();
                let length = space.len().min(part.len());
                space[..length].copy_from_slice(&part[..length]);
                decoder.advance(length);
                part = &part[length..];
                while let Some(response) = decoder.response()? {
                    responses.push(response);
                }
            }
        }
        assert!(decoder.is_empty());
        Ok(responses)
    }

    #[test]
    fn responses_are_the_same_in_whatever_parts_they_arrive() {
        let long = "x".repeat(3 * VALUE_STEP / 2);
        let bytes = format!(
            "HD O1\r\nVA 0\r\n\r\nVA 4 O2\r\n\r\n\r\n\r\nVA {} c9\r\n{long}\r\nEN\r\nMN\r\n",
            long.len()
        );
        for size in [1, 2, 3, 7, 100, 4_096, INPUT_SIZE, bytes.len()] {
            let responses = decode(bytes.as_bytes(), size).unwrap();
            let values: Vec<_> = responses
                .iter()
                .map(|response| response.value.len())
                .collect();
            assert_eq!(values, [0, 0, 4, long.len(), 0, 0], "{size}");
            assert_eq!(responses[3].value, long.as_bytes());
            assert_eq!(responses[5].code, ReturnCode::Mn);
        }
    }

    #[test]
    fn malformed_responses_are_failures_in_whatever_parts_they_arrive() {
        let endless = "x".repeat(INPUT_SIZE + 1);
        for bytes in [
            "HTTP/1.1 400\r\n",
            "VA 2\r\n1\r\nHD\r\n",
            "VA 1\r\n12\r\n",
            "VA x\r\n",
            &endless,
        ] {
            for size in [1, 3, bytes.len()] {
                let failure = decode(bytes.as_bytes(), size).unwrap_err();
                assert!(matches!(failure, Failure::Malformed(_)), "{failure:?}");
            }
        }
    }
}
