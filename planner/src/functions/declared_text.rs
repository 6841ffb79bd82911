//! What a declared length does to texts inside a plan: assignment makes them fit, CHAR(n) is padded
//! where its blanks count. Everywhere else CHAR(n) is a text without trailing blanks.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, StringArray},
    datatypes::DataType,
};
use datafusion::{
    error::{DataFusionError, Result},
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};

use super::{external, function::answer};
use crate::{
    SqlType,
    values::{fit_text, padding},
};

/// `text` as a value assigned to VARCHAR(n) or CHAR(n): 22001 where it is too long.
pub fn fit(text: Expr, sql_type: &SqlType) -> Expr {
    call("fit_text", Step::Fit, text, sql_type)
}

/// A text of CHAR(n) with the blanks that LIKE and regular expressions see.
pub fn padded(text: Expr, sql_type: &SqlType) -> Expr {
    call("padded_text", Step::Pad, text, sql_type)
}

fn call(name: &'static str, step: Step, text: Expr, sql_type: &SqlType) -> Expr {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    let function = DeclaredText { name, step, sql_type: sql_type.clone(), signature };
    ScalarUDF::new_from_impl(function).call(vec![text])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Fit,
    Pad,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DeclaredText {
    name: &'static str,
    step: Step,
    sql_type: SqlType,
    signature: Signature,
}

impl ScalarUDFImpl for DeclaredText {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let source = args.first().map(ToString::to_string).unwrap_or_default();
        Ok(format!("{}({source}, {})", self.name, self.sql_type.name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(1)?;
        let texts = array.as_string_opt::<i32>().ok_or_else(|| {
            DataFusionError::Internal(format!("{} of {}", self.name, array.data_type()))
        })?;
        let array: ArrayRef = match self.step {
            Step::Fit => match fitted(texts, &self.sql_type)? {
                None => array,
                Some(fitted) => Arc::new(fitted),
            },
            Step::Pad => {
                let pad = |text: &str| {
                    let blanks = padding(text, &self.sql_type);
                    format!("{text}{:blanks$}", "")
                };
                Arc::new(texts.iter().map(|text| text.map(pad)).collect::<StringArray>())
            }
        };
        answer(&args, array)
    }
}

/// The texts made to fit; `None` if they all do as they are, so that nothing is copied.
fn fitted(texts: &StringArray, sql_type: &SqlType) -> Result<Option<StringArray>> {
    let fit = |text| fit_text(text, sql_type).map_err(external);
    let mut is_changed = false;
    for text in texts.iter().flatten() {
        is_changed |= fit(text)?.len() != text.len();
    }
    if !is_changed {
        return Ok(None);
    }
    texts.iter().map(|text| text.map(fit).transpose()).collect::<Result<_>>().map(Some)
}
