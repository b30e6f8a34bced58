//! Removes pushes from the replies of Redis, as a proxy does that does not know them.

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct PushFilter {
    /// The beginning of a reply whose end has not come yet.
    incomplete: Vec<u8>,
}

impl PushFilter {
    /// Returns the replies that are complete, without pushes.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.incomplete.extend_from_slice(bytes);
        let (mut passed, mut at) = (Vec::new(), 0);
        while let Some(length) = value_length(&self.incomplete[at..]) {
            let value = &self.incomplete[at..at + length];
            if !value.starts_with(b">") {
                passed.extend_from_slice(value);
            }
            at += length;
        }
        self.incomplete.drain(..at);
        passed
    }
}

/// Returns the length of the first value of RESP3, if it is complete.
fn value_length(bytes: &[u8]) -> Option<usize> {
    let line_end = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let number = std::str::from_utf8(&bytes[1..line_end - 2]).ok();
    let count = number.and_then(|number| number.parse::<usize>().ok());
    match (bytes[0], count) {
        (b'$' | b'=' | b'!', Some(length)) => {
            let end = line_end + length + 2;
            (end <= bytes.len()).then_some(end)
        }
        (kind @ (b'*' | b'~' | b'>' | b'%' | b'|'), Some(count)) => {
            // An attribute is followed by the value that it is about.
            let (pairs, more) = (matches!(kind, b'%' | b'|'), kind == b'|');
            let count = count * if pairs { 2 } else { 1 } + usize::from(more);
            let mut end = line_end;
            for _ in 0..count {
                end += value_length(&bytes[end..])?;
            }
            Some(end)
        }
        _ => Some(line_end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pushes_are_removed_wherever_the_bytes_are_split() {
        let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
        let replies = ["+OK\r\n", "*2\r\n$3\r\n>1\r\r\n_\r\n", "%1\r\n+a\r\n:1\r\n"];
        let all = format!("{push}{}{push}{}{}", replies[0], replies[1], replies[2]);
        for part in 1..all.len() {
            let mut filter = PushFilter::default();
            let passed = all.as_bytes().chunks(part);
            let passed: Vec<_> = passed.flat_map(|part| filter.pass(part)).collect();
            assert_eq!(String::from_utf8(passed).unwrap(), replies.concat());
        }
    }
}
