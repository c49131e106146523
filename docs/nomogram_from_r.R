# export_rms(fit, file): coefficients of an rms fit for osml.nomogram.from_coefficients.
# read_osml(file): a nomogram.json of osml as an R function of a data frame.
# Needs rms and jsonlite.

export_rms <- function(fit, file, times = NULL) {
  design <- fit$Design
  spline <- design$assume == "rcspline"
  out <- list(
    coefficients = as.list(coef(fit)),
    covariance = unname(vcov(fit, intercepts = "all")),
    knots = lapply(design$parms[design$name[spline]], as.numeric),
    levels = design$parms[design$name[design$assume == "category"]],
    limits = as.list(as.data.frame(design$limits))
  )
  if (inherits(fit, "cph")) {
    base <- survival::survfit(fit, se.fit = FALSE)
    out$times <- times
    out$center <- fit$center
    out$survival <- sapply(times, function(t) min(1, base$surv[base$time <= t]))
  }
  jsonlite::write_json(out, file, auto_unbox = TRUE, digits = NA, null = "null")
}

read_osml <- function(file) {
  n <- jsonlite::fromJSON(file, simplifyVector = FALSE)
  stopifnot(n$format == "osml.nomogram", n$version == 1)
  columns <- function(term, data) {
    if (term$kind == "interaction") {
      a <- columns(term$first, data)
      b <- columns(term$second, data)
      return(do.call(cbind, lapply(seq_len(ncol(a)), function(i) a[, i] * b)))
    }
    x <- data[[term$input]]
    switch(term$kind,
      linear = cbind(x),
      log = cbind(log(x)),
      rcs = Hmisc::rcspline.eval(x, knots = unlist(term$knots), inclx = TRUE),
      category = outer(as.character(x), unlist(term$levels)[-1], "==") * 1
    )
  }
  function(data) {
    X <- do.call(cbind, lapply(n$model$terms, columns, data = data))
    lp <- n$model$intercept + drop(X %*% unlist(n$model$coef))
    if (n$outcome$kind == "logistic") return(plogis(lp))
    survival <- outer(exp(lp), unlist(n$outcome$survival), function(risk, s) s^risk)
    if (n$outcome$show == "risk") 1 - survival else survival
  }
}
