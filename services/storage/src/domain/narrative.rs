//! The XHTML of narratives: only what HTML 4.0 formats with (txt-1), and something to read (txt-2).
//!
//! Source: <https://hl7.org/fhir/R4/narrative.html#xhtml>, whose lists are those of the standard's own validator.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

const ELEMENTS: [&str; 55] = [
    "a",
    "abbr",
    "acronym",
    "address",
    "area",
    "b",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "del",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "ins",
    "kbd",
    "li",
    "map",
    "ol",
    "p",
    "pre",
    "q",
    "samp",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "ul",
    "var",
];

/// Of every element.
const ATTRIBUTES: [&str; 22] = [
    "abbr",
    "accesskey",
    "align",
    "axis",
    "char",
    "charoff",
    "class",
    "colspan",
    "dir",
    "headers",
    "id",
    "idref",
    "lang",
    "rowspan",
    "scope",
    "span",
    "style",
    "tabindex",
    "title",
    "valign",
    "width",
    "xml:lang",
];

/// Of some.
const ATTRIBUTES_OF: [(&str, &[&str]); 11] = [
    ("a", &["charset", "coords", "href", "hreflang", "name", "rel", "rev", "shape", "target", "type"]),
    ("area", &["alt", "coords", "href", "nohref", "shape"]),
    ("blockquote", &["cite"]),
    ("del", &["cite", "datetime"]),
    ("div", &["xmlns"]),
    ("img", &["alt", "border", "height", "ismap", "longdesc", "src", "usemap"]),
    ("ins", &["cite", "datetime"]),
    ("map", &["name"]),
    ("pre", &["space", "xml:space"]),
    ("q", &["cite"]),
    ("table", &["border", "cellpadding", "cellspacing", "frame", "rules", "summary"]),
];

/// The invariant that a `div` breaks, if any.
#[must_use]
pub fn broken(div: &str) -> Option<&'static str> {
    match seen(div) {
        None => Some("txt-1"),
        Some(false) => Some("txt-2"),
        Some(true) => None,
    }
}

/// Whether there is something to read; nothing if the form is wrong.
fn seen(div: &str) -> Option<bool> {
    let mut reader = Reader::from_str(div);
    reader.config_mut().check_comments = true;
    let (mut depth, mut roots, mut seen) = (0_usize, 0_usize, false);
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                roots += usize::from(depth == 0);
                seen |= allowed(&tag, depth == 0)?;
                depth += 1;
            }
            Event::Empty(tag) => {
                roots += usize::from(depth == 0);
                seen |= allowed(&tag, depth == 0)?;
            }
            Event::End(_) => depth = depth.checked_sub(1)?,
            Event::Text(text) if text.bytes().all(|byte| byte.is_ascii_whitespace()) => {}
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) if depth == 0 => return None,
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => seen = true,
            Event::Comment(_) => {}
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) => return None,
            Event::Eof => return (depth == 0 && roots == 1).then_some(seen),
        }
    }
}

/// Whether an element is something to see; nothing if it, or an attribute of it, is not allowed.
fn allowed(tag: &BytesStart<'_>, root: bool) -> Option<bool> {
    let qualified = tag.name();
    let name: &str = qualified.as_ref();
    if (root && name != "div") || ELEMENTS.binary_search(&name).is_err() {
        return None;
    }
    let own = ATTRIBUTES_OF.iter().find(|(element, _)| *element == name).map_or(&[][..], |(_, own)| own);
    let mut attributes = tag.attributes();
    for attribute in attributes.with_checks(false) {
        let attribute = attribute.ok()?;
        let key: &str = attribute.key.as_ref();
        if !ATTRIBUTES.contains(&key) && !own.contains(&key) {
            return None;
        }
    }
    Some(name == "img")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrative_formats_and_does_nothing_else() {
        for good in [
            "<div xmlns=\"http://www.w3.org/1999/xhtml\">A &lt; <b class=\"c\">b</b>&#160;<br/></div>",
            "<div><p>x</p><!-- a note --></div>",
            "<div><img src=\"#a\" alt=\"a\"/></div>",
            " <div><table border=\"1\"><tr><td colspan=\"2\">é</td></tr></table></div>\n",
        ] {
            assert_eq!(broken(good), None, "{good}");
        }
        for wrong in [
            "",
            "text",
            "<p>x</p>",
            "<div>x",
            "<div>x</p></div>",
            "<div>x</div><div>y</div>",
            "<div>x</div>y",
            "<div><script>x</script></div>",
            "<div><p onclick=\"x()\">x</p></div>",
            "<div><a onmouseover='x'>x</a></div>",
            "<div><form>x</form></div>",
            "<div><iframe src=\"x\">x</iframe></div>",
            "<div><DIV>x</DIV></div>",
            "<!DOCTYPE html><div>x</div>",
            "<div><?php x ?>x</div>",
            "<div><p a>x</p></div>",
            "<div><",
            "<div><![CDATA[x</div>",
        ] {
            assert_eq!(broken(wrong), Some("txt-1"), "{wrong}");
        }
        for empty in ["<div/>", "<div> \n</div>", "<div><p></p><!-- x --></div>"] {
            assert_eq!(broken(empty), Some("txt-2"), "{empty}");
        }
    }

    #[test]
    fn the_list_of_elements_is_in_order() {
        assert!(ELEMENTS.is_sorted());
    }
}
