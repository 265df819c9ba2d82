//! Documents stay true: links lead somewhere, the index of decisions names every page and the code that follows it, the
//! ledger's rules quote sections that exist, and lines end where a reader expects them to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where a line of prose ends at the latest. Lines of tables and of fenced blocks may be longer: they cannot be broken.
const WIDTH: usize = 120;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below a folder of the project that end so, without those that were built.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![project().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn documents() -> Vec<PathBuf> {
    let mut pages = files("docs", &[".md"]);
    pages.extend(
        ["README.md", "CONTRIBUTING.md"].map(|page| project().join(page)).into_iter().filter(|p| p.exists()),
    );
    pages
}

fn sources() -> Vec<PathBuf> {
    ["services", "shared", "tests", "fuzz"]
        .iter()
        .flat_map(|folder| files(folder, &[".rs", ".sql", ".cedar"]))
        .filter(|path| !path.ends_with("tests/documents.rs"))
        .collect()
}

fn name(path: &Path) -> String {
    path.strip_prefix(project()).unwrap().to_str().unwrap().to_owned()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Lines outside fenced blocks, with their numbers.
fn prose(page: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((number, line));
        }
    }
    lines
}

/// What a heading is called in a link: lowercase letters, digits and hyphens.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).into_iter().filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| anchor(line.trim_start_matches('#'))).collect()
}

/// Targets of `[…](target)`.
fn links(page: &str) -> Vec<String> {
    let joined: Vec<&str> = prose(page).into_iter().map(|(_, line)| line).collect();
    let joined = joined.join("\n");
    joined
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

#[test]
fn lines_of_documents_end_at_120_characters() {
    for page in documents() {
        for (number, line) in prose(&text(&page)) {
            let long = line.chars().count() > WIDTH && !line.trim_start().starts_with('|');
            assert!(!long, "{}:{number} is longer than {WIDTH} characters", name(&page));
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut seen = 0;
    for page in documents() {
        for link in links(&text(&page)) {
            if link.contains("://") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: `{link}` leads nowhere", name(&page));
            let found = section.is_empty() || anchors(&text(&target)).contains(section);
            assert!(found, "{}: `{link}` names no heading", name(&page));
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} links were seen");
}

/// Rows of the index: number → (page, area, status, code).
fn index() -> BTreeMap<String, [String; 4]> {
    let page = text(&project().join("docs/decisions/README.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| [")?.strip_suffix(" |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 5, "five cells: {row}");
        let (number, page) = cells[0].split_once("](").unwrap();
        let page = page.trim_end_matches(')');
        (number.to_owned(), [page, cells[2], cells[3], cells[4]].map(str::to_owned))
    })
    .collect()
}

/// Numbers after `decision` or `decisions` in the comments of a file.
fn decisions_named(source: &str) -> BTreeSet<String> {
    let comments =
        source.lines().filter_map(|line| line.find("//").or(line.find("--")).map(|at| &line[at..]));
    let mut found = BTreeSet::new();
    for comment in comments {
        for rest in comment.split("ecision").skip(1) {
            let rest = rest.strip_prefix('s').unwrap_or(rest);
            for word in rest.split_whitespace() {
                let number = word.trim_matches([',', '.', ';', ':', ')']);
                let is_number = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
                if is_number {
                    found.insert(number.to_owned());
                } else if word != "and" {
                    break;
                }
            }
        }
    }
    found
}

#[test]
fn the_index_of_decisions_has_every_page() {
    let pages: BTreeSet<String> = files("docs/decisions", &[".md"])
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|page| page != "README.md")
        .collect();
    let index = index();
    let listed: BTreeSet<String> = index.values().map(|[page, ..]| page.clone()).collect();
    assert_eq!(listed, pages);
    for (number, [page, area, status, _]) in &index {
        assert!(page.starts_with(number.as_str()), "{page} is not number {number}");
        assert!(!area.is_empty() && !status.is_empty(), "{page} has no area or status");
        let first = text(&project().join("docs/decisions").join(page));
        let heading = format!("# {}. ", number.trim_start_matches('0'));
        assert!(first.starts_with(&heading), "{page} does not begin with `{heading}`");
    }
}

#[test]
fn decisions_and_the_code_that_follows_them_name_each_other() {
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources() {
        for number in decisions_named(&text(&path)) {
            named.entry(number).or_default().insert(name(&path));
        }
    }
    let index = index();
    for number in named.keys() {
        assert!(
            index.contains_key(number),
            "decision {number} is named in {:?} and does not exist",
            named[number]
        );
    }
    for (number, [page, _, _, code]) in &index {
        let listed: BTreeSet<String> = code.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        for path in &listed {
            assert!(project().join(path).exists(), "{page}: `{path}` does not exist");
        }
        let here = named.get(number).cloned().unwrap_or_default();
        assert_eq!(listed, here, "{page}: the index (left) and the comments of the code (right) differ");
        assert!(!listed.is_empty() || code.len() > 10, "{page} has no code, and the index does not say why");
    }
}

/// Numbers of the sections of FORMATS, such as `5.3`.
fn sections() -> BTreeSet<String> {
    let page = text(&project().join("docs/FORMATS.md"));
    let headings =
        prose(&page).into_iter().filter_map(|(_, line)| line.trim_start_matches('#').strip_prefix(' '));
    let numbers = headings.filter_map(|heading| heading.split_whitespace().next());
    numbers
        .map(|number| number.trim_end_matches('.').to_owned())
        .filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        .collect()
}

#[test]
fn every_rule_of_the_ledger_quotes_its_section_of_the_formats() {
    let sections = sections();
    assert!(sections.contains("5.3"), "{sections:?}");
    let mut rules = 0;
    for path in sources() {
        let source = text(&path);
        for rest in source.split("FORMATS §").skip(1) {
            let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let number = number.trim_end_matches('.');
            assert!(sections.contains(number), "{}: FORMATS has no section {number}", name(&path));
        }
        let is_rules = path.parent().unwrap().ends_with("rules") && !name(&path).contains("/tests/");
        if !is_rules {
            continue;
        }
        let mut comment = String::new();
        for line in source.lines().map(str::trim) {
            if line.starts_with("///") {
                comment.push_str(line);
            } else {
                if line.contains("&mut self, tx: &Tx, payload: &") {
                    assert!(comment.contains("FORMATS §"), "{}: no section is quoted: {line}", name(&path));
                    rules += 1;
                }
                comment.clear();
            }
        }
    }
    assert!(rules >= 12, "only {rules} rules were found");
}
