//! When to stop: SIGTERM, Ctrl-C, or the end of standard input for a child whose supervisor holds the other end.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Resolves when this process is asked to stop. With `input_closes`, the end of standard input asks too.
pub fn requested(input_closes: bool) -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let closed = input_closes.then(input_closed);
    Ok(async move {
        let closed = async move {
            match closed {
                // An error means that the reading thread is gone, which only its end can do.
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = closed => {}
        }
    })
}

/// Reads standard input to its end on a thread of its own: a blocked read must not keep the runtime from ending.
fn input_closed() -> tokio::sync::oneshot::Receiver<()> {
    let (send, closed) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _bytes_or_fault = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _nobody_waits = send.send(());
    });
    closed
}
