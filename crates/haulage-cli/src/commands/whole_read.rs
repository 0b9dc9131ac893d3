//! Looks that read every record.

use std::{pin::pin, time::Duration};

use haulage::{Backend, backend::WholeRead};
use tokio::sync::watch;

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
    let read = backend.whole_read().await.ok().flatten();
    let scanned = backend.signals().scanned.filter(|_| output.is_terminal());
    told(|text| output.talk(text), read, scanned, times, look).await
}

/// The same, said to `say`.
async fn told<T>(
    mut say: impl FnMut(String),
    read: Option<WholeRead>,
    scanned: Option<watch::Receiver<u64>>,
    times: u32,
    look: impl Future<Output = haulage::Result<T>>,
) -> Result<T> {
    let Some(read) = read.filter(|read| read.bytes >= LITTLE) else { return Ok(look.await?) };
    say(price(&read, times));
    let mut look = pin!(look);
    let mut tick = tokio::time::interval(TOLD_EVERY);
    tick.tick().await;
    loop {
        tokio::select! {
            answer = &mut look => return Ok(answer?),
            _ = tick.tick(), if scanned.is_some() => {
                let done = scanned.as_ref().map_or(0, |scanned| *scanned.borrow());
                say(format!("{done} of about {} read", read.items));
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

    /// A table of so many bytes.
    fn table(bytes: u64) -> Option<WholeRead> {
        let mut read = WholeRead::new("table results".into());
        (read.items, read.bytes) = (1_000_000, bytes);
        Some(read)
    }

    /// What is said meanwhile of a look that has read another thousand items after each three seconds, for 12 s.
    async fn said(read: Option<WholeRead>, is_terminal: bool) -> Vec<String> {
        let (mut said, (sender, receiver)) = (Vec::new(), watch::channel(0));
        let look = async {
            for thousands in 1..=4 {
                tokio::time::sleep(Duration::from_secs(3)).await;
                sender.send_replace(thousands * 1000);
            }
            Ok("found")
        };
        let found = told(|text| said.push(text), read, is_terminal.then_some(receiver), 1, look).await;
        assert_eq!(found.expect("an answer"), "found");
        said
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_said_of_a_small_table() {
        for read in [table(LITTLE - 1), None] {
            assert_eq!(said(read, true).await, Vec::<String>::new());
        }
        let price = said(table(LITTLE), false).await;
        assert!(
            matches!(&price[..], [said] if said.starts_with("this reads all of table results")),
            "{price:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_is_told_every_five_seconds_how_far_it_is() {
        let said = said(table(LITTLE), true).await;
        assert!(said[0].contains("about 1000000 items and 256 MiB"), "{said:?}");
        assert_eq!(said[1..], ["1000 of about 1000000 read", "3000 of about 1000000 read"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_says_why() {
        let look = async { Err::<(), _>(haulage::Error::Config("no such table".into())) };
        let failed = told(drop::<String>, table(LITTLE), None, 1, look).await.expect_err("it fails");
        assert!(failed.messages[0].contains("no such table"), "{:?}", failed.messages);
    }

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
