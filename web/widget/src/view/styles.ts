// Constructed, not parsed from markup: a content policy without `unsafe-inline` allows that.

/** The text of styles.css, put in by the bundler. */
declare const STYLES: string

let sheet: CSSStyleSheet | undefined

export function styles(): CSSStyleSheet {
  if (!sheet) {
    sheet = new CSSStyleSheet()
    sheet.replaceSync(STYLES)
  }
  return sheet
}
