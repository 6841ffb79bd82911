//! `tidewater demo`: an auction stream, a windowed job, and its table filling before your eyes.
//! Everything goes through SQL over the server's own port; there is no back door.

mod client;

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use client::{Client, Row};

/// How often the view is drawn again.
const REFRESH: Duration = Duration::from_millis(500);

/// How often it is drawn before the demo leaves the server to you.
const FRAMES: usize = 40;

/// Rows of the view: three windows of four channels.
const ROWS: usize = 12;

/// What the demo creates, statement by statement.
const STATEMENTS: [&str; 3] = [
    "CREATE MAPPING IF NOT EXISTS auctions TYPE Generator\n\
     OPTIONS ('kind' = 'nexmark', 'rate' = '20000')",
    "CREATE TABLE IF NOT EXISTS bids_per_second (\n  \
     channel TEXT, window_end TIMESTAMP, bids BIGINT, top_price BIGINT,\n  \
     PRIMARY KEY (channel, window_end))",
    "CREATE JOB IF NOT EXISTS count_bids AS SINK INTO bids_per_second\n\
     SELECT channel, window_end, count(*) AS bids, max(price) AS top_price\n\
     FROM TABLE(TUMBLE(\n  \
     (SELECT (bid).channel AS channel, (bid).price AS price, date_time\n   \
     FROM TABLE(IMPOSE_ORDER(TABLE auctions, DESCRIPTOR(date_time), INTERVAL '0.1' SECOND))\n   \
     WHERE event_type = 2 AND (bid).channel IN ('Apple', 'Baidu', 'Facebook', 'Google')),\n  \
     DESCRIPTOR(date_time), INTERVAL '1' SECOND))\n\
     GROUP BY channel, window_start, window_end",
];

/// The newest windows.
const NEWEST: &str = "SELECT window_end, channel, bids, top_price FROM bids_per_second \
                      ORDER BY window_end DESC, channel LIMIT 12";

/// How far the job is.
const TOTALS: &str = "SELECT count(*), sum(bids) FROM bids_per_second";

/// Creates the demo's objects on the server at `address` and shows the table until `stop` hangs
/// up or the show is over.
pub fn run(address: SocketAddr, stop: &Receiver<()>) -> Result<(), client::Error> {
    let mut client = Client::connect(address)?;
    let mut terminal = std::io::stdout();
    for statement in STATEMENTS {
        writeln!(terminal, "\n{statement};")?;
        client.query(statement)?;
    }
    writeln!(terminal, "\n{NEWEST};\n")?;
    let is_terminal = terminal.is_terminal();
    // Without a terminal to draw on, one view a few seconds in is worth more than forty.
    let frames = if is_terminal { FRAMES } else { 3 };
    let pause = if is_terminal { REFRESH } else { 4 * REFRESH };
    let mut height = 0;
    for _ in 0..frames {
        if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
        let view = view(&client.query(NEWEST)?, &client.query(TOTALS)?);
        if is_terminal && height > 0 {
            // Back to the first line of the last view, and clear from there on.
            write!(terminal, "\x1b[{height}A\x1b[J")?;
        }
        height = view.lines().count();
        write!(terminal, "{view}")?;
        terminal.flush()?;
    }
    let (host, port) = (address.ip(), address.port());
    writeln!(
        terminal,
        "\nThe job goes on. Look for yourself:  psql -h {host} -p {port}\n  \
         SELECT * FROM bids_per_second ORDER BY window_end DESC LIMIT 20;\n  \
         SELECT * FROM sys.jobs;\n  \
         SELECT (bid).channel, (bid).price FROM auctions WHERE event_type = 2 LIMIT 5;\n  \
         DROP JOB count_bids;"
    )?;
    Ok(())
}

/// The table as text.
fn view(rows: &[Row], totals: &[Row]) -> String {
    let text = |row: &Row, index: usize| row.get(index).cloned().flatten().unwrap_or_default();
    let mut view = String::from(" window_end          | channel  |  bids |   top_price\n");
    view.push_str("---------------------+----------+-------+------------\n");
    for row in rows.iter().take(ROWS) {
        let (end, channel) = (text(row, 0), text(row, 1));
        let (bids, price) = (text(row, 2), text(row, 3));
        view.push_str(&format!(" {end:<19} | {channel:<8} | {bids:>5} | {price:>11}\n"));
    }
    let totals = totals.first().cloned().unwrap_or_default();
    let (windows, bids) = (text(&totals, 0), text(&totals, 1));
    let bids = if bids.is_empty() { "0".to_owned() } else { bids };
    view.push_str(&format!("{windows} rows so far, {bids} bids counted\n"));
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_lines_up_its_columns() {
        let some = |text: &str| Some(text.to_owned());
        let row = vec![some("2026-01-01 00:00:01"), some("Apple"), some("42"), some("99")];
        let view = view(&[row], &[vec![some("1"), None]]);
        let widths: Vec<usize> = view.lines().take(3).map(str::len).collect();
        assert_eq!(widths[0], widths[2]);
        assert!(view.ends_with("1 rows so far, 0 bids counted\n"));
    }
}
