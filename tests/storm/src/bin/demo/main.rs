//! A flash sale to watch: BUYERS people want one of UNITS units over CONNECTIONS connections,
//! while others shop elsewhere. Ends with a table, and with status 1 if a number is wrong.

mod elsewhere;
mod progress;
mod report;
mod sale;
mod settings;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("demo: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool, String> {
    let settings = settings::Settings::from_env()?;
    let config = storm::config_from_env()?;
    let report = sale::hold(&settings, &config).await?;
    println!("{report}");
    let complaints = report.complaints();
    for complaint in &complaints {
        eprintln!("demo: {complaint}");
    }
    Ok(complaints.is_empty())
}
