//! A trace in few lines: the parser's way, every table with its key and what it did, and the exit.
//!
//! `signalbox switch` shows traces in full; the demo shows what a reader of the policy looks for.

use std::fmt::Write;

use signalbox_switch::Bits;
use signalbox_switch::trace::{Event, Trace};

/// The lines of one pass.
pub(super) fn describe(trace: &Trace) -> String {
    let mut lines = Lines::default();
    for event in &trace.events {
        // Writing to a string does not fail.
        let _ = lines.event(event);
    }
    lines.finish()
}

#[derive(Default)]
struct Lines {
    text: String,
    states: Vec<String>,
    /// The table whose action has not been shown yet.
    open: bool,
}

impl Lines {
    fn event(&mut self, event: &Event) -> std::fmt::Result {
        match event {
            Event::State { name } => self.states.push(name.clone()),
            // What the compiler made of statements has no key, and says nothing of the policy.
            Event::Table { name, key, hit, .. } if !key.is_empty() => {
                self.parser()?;
                self.end_line();
                let outcome = if *hit { "hit " } else { "miss" };
                write!(self.text, "{outcome} {name}: {}", values(key))?;
                self.open = true;
            }
            Event::Action { name, params, .. } if self.open => {
                self.open = false;
                if !matches!(name.as_str(), "NoAction" | ".NoAction") {
                    write!(self.text, "\n       {name}({})", values(params))?;
                }
            }
            Event::Drop { reason } => {
                self.parser()?;
                self.end_line();
                write!(self.text, "dropped: {reason:?}")?;
            }
            Event::Output { port, bytes } => {
                self.parser()?;
                self.end_line();
                write!(self.text, "out by port {port}, {bytes} bytes")?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Shows the parser's way once it is over.
    fn parser(&mut self) -> std::fmt::Result {
        if !self.states.is_empty() {
            self.end_line();
            let states = std::mem::take(&mut self.states);
            write!(self.text, "parsed: {}", states.join(", "))?;
        }
        Ok(())
    }

    fn end_line(&mut self) {
        self.open = false;
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn finish(self) -> String {
        self.text
    }
}

fn values(values: &[(String, Bits)]) -> String {
    let each: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    each.join(" ")
}
