//! Parses keys that are templates: `"user:{user_id}"`.

use syn::{Error, Ident, LitStr};

pub(crate) struct Template {
    pub(crate) pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    Literal(String),
    Placeholder(Placeholder),
}

/// `{name.field:spec}`
#[derive(Debug, PartialEq)]
pub(crate) struct Placeholder {
    pub(crate) name: String,
    pub(crate) fields: Vec<String>,
    pub(crate) spec: Option<String>,
    /// The character after the placeholder, unless it is the last one.
    pub(crate) terminator: Option<char>,
}

impl Template {
    pub(crate) fn parse(template: &LitStr) -> syn::Result<Self> {
        Self::of(&template.value()).map_err(|message| Error::new(template.span(), message))
    }

    fn of(text: &str) -> Result<Self, String> {
        let mut pieces = split(text)?;
        terminate(&mut pieces)?;
        Ok(Self { pieces })
    }

    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Placeholder(placeholder) => Some(placeholder),
            Piece::Literal(_) => None,
        })
    }
}

fn split(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        if brace == "}" {
            return Err("unmatched `}`; for a brace in the key, write `}}`".into());
        }
        let Some((inside, after)) = after.split_once('}') else {
            return Err("unmatched `{`; for a brace in the key, write `{{`".into());
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Placeholder(placeholder(inside)?));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

fn placeholder(inside: &str) -> Result<Placeholder, String> {
    let (path, spec) = match inside.split_once(':') {
        Some((path, spec)) => (path, Some(spec.to_owned())),
        None => (inside, None),
    };
    let mut segments = path.trim().split('.').map(str::to_owned);
    let name = segments.next().unwrap_or_default();
    // A raw identifier is named without its prefix, as in `format!`.
    let name = name.strip_prefix("r#").map_or(name.clone(), str::to_owned);
    let fields: Vec<String> = segments.collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!(
            "`{{{inside}}}` does not name an argument; write a name, as in `{{user_id}}`"
        ));
    }
    let is_field = |field: &String| is_name(field) || field.parse::<u32>().is_ok();
    let named = name == "self" && !fields.is_empty() || is_name(&name);
    if !named
        || !fields.iter().all(is_field)
        || spec.as_ref().is_some_and(|spec| spec.starts_with(':'))
    {
        return Err(format!(
            "`{{{inside}}}` is not an argument or a field, such as `{{request.id}}` or \
             `{{self.tenant}}`; for anything else, write an expression: `key = (…)`"
        ));
    }
    Ok(Placeholder {
        name,
        fields,
        spec,
        terminator: None,
    })
}

/// Returns whether a text is an identifier, or a keyword that can be a raw identifier.
pub(crate) fn is_name(text: &str) -> bool {
    let is_raw = |text| syn::parse_str::<Ident>(&format!("r#{text}")).is_ok();
    syn::parse_str::<Ident>(text).is_ok() || (!text.starts_with("r#") && is_raw(text))
}

/// Sets the terminator of each placeholder. Values that contain it are escaped, so that different
/// values never make the same key.
fn terminate(pieces: &mut [Piece]) -> Result<(), String> {
    let Some(last) = pieces
        .iter()
        .rposition(|piece| matches!(piece, Piece::Placeholder(_)))
    else {
        return Ok(());
    };
    for at in 0..last {
        let [Piece::Placeholder(first), next, ..] = &mut pieces[at..] else {
            continue;
        };
        first.terminator = match next {
            Piece::Literal(literal) => literal.chars().next(),
            Piece::Placeholder(_) => None,
        };
        // Letters and digits cannot be escaped in numbers, nor `%` in escapes.
        if first
            .terminator
            .is_none_or(|c| c.is_alphanumeric() || c == '%')
        {
            let next = match next {
                Piece::Literal(literal) => literal.clone(),
                Piece::Placeholder(next) => format!("{{{}}}", next.name),
            };
            return Err(format!(
                "no separator between `{{{}}}` and `{next}`, so that different values could make the \
                 same key; put a separator such as `:` between them",
                first.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Piece {
        Piece::Literal(text.into())
    }

    fn named(name: &str, fields: &[&str], spec: Option<&str>, terminator: Option<char>) -> Piece {
        Piece::Placeholder(Placeholder {
            name: name.into(),
            fields: fields.iter().map(|&field| field.into()).collect(),
            spec: spec.map(Into::into),
            terminator,
        })
    }

    #[test]
    fn a_template_is_split_into_its_pieces() {
        let pieces = |text| Template::of(text).map(|template| template.pieces).unwrap();
        assert_eq!(pieces(""), []);
        assert_eq!(pieces("all"), [literal("all")]);
        assert_eq!(
            pieces("{{{a}}}"),
            [literal("{"), named("a", &[], None, None), literal("}")]
        );
        assert_eq!(
            pieces("u:{self.tenant.0}-{id:05}:x"),
            [
                literal("u:"),
                named("self", &["tenant", "0"], None, Some('-')),
                literal("-"),
                named("id", &[], Some("05"), None),
                literal(":x"),
            ]
        );
    }

    #[test]
    fn malformed_templates_are_errors() {
        for text in [
            "{", "}", "{}", "{0}", "{a", "a}", "{self}", "{a.b()}", "{a::b}", "{a b}", "{a.}",
        ] {
            assert!(Template::of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn placeholders_need_a_separator() {
        for text in ["{a}{b}", "{a}x{b}", "{a}1{b}", "{a}%{b}", "{a}ß:{b}"] {
            assert!(Template::of(text).is_err(), "{text}");
        }
        for text in ["{a}:{b}", "{a}_{b}", "{a} {b}x", "x{a}/x{b}"] {
            assert!(Template::of(text).is_ok(), "{text}");
        }
    }
}
