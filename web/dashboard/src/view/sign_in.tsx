// Where there is no endpoint, or nobody is logged in there.

export function SignIn({ isPasted, error, onPaste, onAgain }: {
  isPasted: boolean
  error: string
  onPaste: (token: string) => void
  onAgain: () => void
}) {
  return (
    <main class="sign-in">
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault()
          if (!isPasted) return onAgain()
          const field = event.currentTarget.elements.namedItem('token') as HTMLTextAreaElement
          if (field.value.trim()) onPaste(field.value)
        }}
      >
        <h1>Sign in</h1>
        {isPasted
          ? (
            <>
              <p id="about-token">
                Paste an agent’s token. This tab keeps it until you close it.
              </p>
              <label class="field">
                <span>Token</span>
                <textarea
                  name="token" rows={5} required autocomplete="off" spellcheck={false} aria-describedby="about-token"
                />
              </label>
              <button class="primary">Sign in</button>
            </>
          )
          : (
            <>
              <p>You are not logged in to the application that this dashboard belongs to. Log in there first.</p>
              <button class="primary">Try again</button>
            </>
          )}
        {error && <p class="error" role="alert">{error}</p>}
      </form>
    </main>
  )
}
