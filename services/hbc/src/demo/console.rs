//! What the demonstration prints: numbered steps, facts, what each step proves, progress, and the table at the end.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Width of a line.
const WIDTH: usize = 110;

/// The story as it is told.
pub struct Console {
    began: Instant,
    step_began: Instant,
    title: String,
    steps: Vec<Step>,
    proofs: Vec<String>,
}

struct Step {
    title: String,
    took: Duration,
    proofs: Vec<String>,
}

impl Console {
    /// A console with nothing told yet.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { began: now, step_began: now, title: String::new(), steps: Vec::new(), proofs: Vec::new() }
    }

    /// Begins the next step.
    pub fn step(&mut self, title: &str) {
        self.finish_step();
        title.clone_into(&mut self.title);
        line(&format!("\n{:>2}. {title}", self.steps.len() + 1));
    }

    /// One thing that came out.
    #[expect(clippy::unused_self, reason = "facts are told between the steps of one console")]
    pub fn fact(&self, name: &str, value: impl std::fmt::Display) {
        line(&format!("      {name:<28} {value}"));
    }

    /// What the step has just shown.
    pub fn proves(&mut self, sentence: &str) {
        line(&format!("    → {sentence}"));
        self.proofs.push(sentence.to_owned());
    }

    /// Waits for `work`, telling how long it takes once that is more than a moment.
    pub async fn wait<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let terminal = std::io::stdout().is_terminal();
        let mut tick = tokio::time::interval(Duration::from_secs(if terminal { 1 } else { 10 }));
        tick.reset();
        tokio::pin!(work);
        let mut told = false;
        loop {
            tokio::select! {
                done = &mut work => {
                    if told && terminal {
                        write("\r\u{1b}[K");
                    }
                    return done;
                }
                _now = tick.tick() => {
                    told = true;
                    let text = format!("      {what} … {} s", began.elapsed().as_secs());
                    if terminal { write(&format!("\r\u{1b}[K{text}")) } else { line(&text) }
                }
            }
        }
    }

    /// The closing table.
    pub fn summary(&mut self) {
        self.finish_step();
        let rule = "─".repeat(WIDTH);
        line(&format!("\n{rule}\n{:<4}{:<94}{:>12}\n{rule}", "", "What was shown", "Time"));
        for (number, step) in (1..).zip(&self.steps) {
            line(&format!("{number:>2}  {:<94}{:>10.1} s", step.title, step.took.as_secs_f64()));
            for proof in &step.proofs {
                line(&format!("      {proof}"));
            }
        }
        line(&format!("{rule}\n    All of it held. {:.1} s in all.\n", self.began.elapsed().as_secs_f64()));
    }

    fn finish_step(&mut self) {
        if !self.title.is_empty() {
            let proofs = std::mem::take(&mut self.proofs);
            let title = std::mem::take(&mut self.title);
            self.steps.push(Step { title, took: self.step_began.elapsed(), proofs });
        }
        self.step_began = Instant::now();
    }
}

/// A full line on standard output; a closed output is no reason to stop the story.
pub fn line(text: &str) {
    write(&format!("{text}\n"));
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
