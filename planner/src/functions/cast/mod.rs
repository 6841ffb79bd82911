//! Casts with PostgreSQL's texts, rounding and errors: `'abc'::int` is 22P02, `2.5::int` is 3,
//! `40000::smallint` is 22003. One function a target type; the source is what it is called with.

mod from_text;
mod numbers;
mod to_text;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, StringArray, downcast_array},
    compute::cast,
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    error::Result,
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
        Volatility,
    },
};

use super::{error::user_error, function::answer};

use crate::{SqlType, text::TimeZone};
pub use from_text::parse as parse_texts;

/// Name of the function in plans.
pub const NAME: &str = "postgres_cast";

/// The cast to a field's type, its declaration included.
pub fn cast_function(to: &FieldRef) -> Arc<ScalarUDF> {
    let to = Field::new("", to.data_type().clone(), true).with_metadata(to.metadata().clone());
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::from(CastTo { to: Arc::new(to), signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CastTo {
    to: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for CastTo {
    fn name(&self) -> &str {
        NAME
    }

    fn schema_name(&self, args: &[datafusion::logical_expr::Expr]) -> Result<String> {
        let source = args.first().map(ToString::to_string).unwrap_or_default();
        Ok(format!("{source}::{}", SqlType::of_field(&self.to).name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::clone(&self.to).with_nullable(is_nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = super::session::time_zone(&args);
        let source_type = SqlType::of_field(&args.arg_fields[0]);
        let row_count = match &args.args[0] {
            ColumnarValue::Array(array) => array.len(),
            ColumnarValue::Scalar(_) => 1,
        };
        let source = args.args[0].to_array(row_count)?;
        let array = cast_array(&source, &source_type, &self.to, &zone)?;
        answer(&args, array)
    }
}

/// Casts a whole array.
fn cast_array(
    source: &ArrayRef,
    source_type: &SqlType,
    to: &Field,
    zone: &TimeZone,
) -> Result<ArrayRef> {
    let from_text = crate::rules::operators::is_text(source.data_type());
    let to_text = crate::rules::operators::is_text(to.data_type());
    match (from_text, to_text) {
        (true, _) => {
            let texts: StringArray = downcast_array(cast(source, &DataType::Utf8)?.as_ref());
            from_text::parse(&texts, to, zone)
        }
        (false, true) => Ok(Arc::new(to_text::write(source, source_type, zone)?)),
        (false, false) => numbers::convert(source, to.data_type()),
    }
}

/// 42846.
fn cannot_cast(from: &DataType, to: &DataType) -> datafusion::error::DataFusionError {
    let name = |data_type: &DataType| SqlType::of_arrow(data_type).name();
    user_error("42846", format!("cannot cast type {} to {}", name(from), name(to)))
}

#[cfg(test)]
mod tests;
