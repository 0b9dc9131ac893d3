//! Looks that read every record.

use std::{pin::pin, time::Duration};

use haulage::{Backend, backend::WholeRead};

use crate::{
    exit::Result,
    output::{Output, bytes},
};

/// What is read sooner and for less than a cent is not worth a word, in bytes.
const LITTLE: u64 = 256 << 20;
/// How often a person is told how far it has come.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Makes such a look. What it takes is said before, and on a terminal how far it is.
pub(super) async fn all<T>(
    output: Output,
    backend: &dyn Backend,
    look: impl Future<Output = haulage::Result<T>>,
) -> Result<T> {
    several(output, backend, 1, look).await
}

/// The same, of a look that reads everything so many times.
pub(super) async fn several<T>(
    output: Output,
    backend: &dyn Backend,
    times: u32,
    look: impl Future<Output = haulage::Result<T>>,
) -> Result<T> {
    // Where that cannot be told, the look is made all the same.
    let read = backend.whole_read().await.ok().flatten().filter(|read| read.bytes >= LITTLE);
    let Some(read) = read else { return Ok(look.await?) };
    output.talk(price(&read, times));
    let scanned = backend.signals().scanned.filter(|_| output.is_terminal());
    let mut look = pin!(look);
    let mut tick = tokio::time::interval(TOLD_EVERY);
    tick.tick().await;
    loop {
        tokio::select! {
            answer = &mut look => return Ok(answer?),
            _ = tick.tick(), if scanned.is_some() => {
                let done = scanned.as_ref().map_or(0, |scanned| *scanned.borrow());
                output.talk(format_args!("{done} of about {} read", read.items));
            }
        }
    }
}

fn price(read: &WholeRead, times: u32) -> String {
    let WholeRead { from, items, price, .. } = read;
    let dollars = read.dollars * f64::from(times);
    let times = if times == 1 { String::new() } else { format!(" {times} times") };
    format!(
        "this reads all of {from}, about {items} items and {}{times}, for about ${dollars:.2} ({price})",
        bytes(read.bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_takes() {
        let mut read = WholeRead::new("table results".into());
        (read.items, read.bytes, read.dollars) = (12_000_000, 190 << 30, 3.11);
        read.price = "on demand, in us-east-1".into();
        assert_eq!(
            price(&read, 1),
            "this reads all of table results, about 12000000 items and 190.0 GiB, for about $3.11 \
             (on demand, in us-east-1)"
        );
        assert!(price(&read, 3).contains("190.0 GiB 3 times, for about $9.33 ("));
    }
}
