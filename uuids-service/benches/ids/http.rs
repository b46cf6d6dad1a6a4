//! Batches over HTTP. Each connection sends its next request when the previous one is answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinSet,
};

use crate::{Answered, BATCH, service::Service};

pub(crate) async fn run(
    service: &Service,
    form: &'static str,
    connections: usize,
    length: Duration,
) -> Result<Answered> {
    let began = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(&service.address).await?;
        stream.set_nodelay(true)?;
        loops.spawn(requests(BufReader::new(stream), form, began + length));
    }
    let mut ids = 0;
    while let Some(taken) = loops.join_next().await {
        ids += taken??;
    }
    let took = began.elapsed();
    Ok(Answered { ids, took })
}

async fn requests(mut stream: BufReader<TcpStream>, form: &str, end: Instant) -> Result<u64> {
    let request = format!("GET /?count={BATCH} HTTP/1.1\r\nHost: ids\r\nAccept: {form}\r\n\r\n");
    let mut ids = 0;
    let mut body = Vec::new();
    while Instant::now() < end {
        stream.write_all(request.as_bytes()).await?;
        answer(&mut stream, &mut body).await?;
        // An id in JSON ends with a quotation mark and a comma or a bracket; in plain text it ends with a line.
        let ends = body
            .iter()
            .filter(|byte| matches!(byte, b'\n' | b',' | b']'));
        ensure!(
            ends.count() == BATCH,
            "an answer with another number of ids"
        );
        ids += u64::try_from(BATCH)?;
    }
    Ok(ids)
}

async fn answer(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    ensure!(line.starts_with("HTTP/1.1 200 "), "{line}");
    let mut length = None;
    while !line.trim_end().is_empty() {
        line.clear();
        stream.read_line(&mut line).await?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = Some(value.trim().parse()?);
        }
    }
    body.resize(length.context("an answer without a length")?, 0);
    stream.read_exact(body).await?;
    Ok(())
}
